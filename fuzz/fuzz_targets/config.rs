//! Configurations: a file and an environment, whatever stands in them.
//!
//! The input is the file's text, then, after a NUL each, variables as `NAME=VALUE`. Nothing panics; a refusal says where and what;
//! and what is accepted is allowed, renders, and the rendered text gives the same configuration again.
#![no_main]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodeaudit::config::{Config, ConfigError, ConfigFile, Preset, Sources};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("there is room for a folder"));

fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|&byte| byte == 0);
    let text = parts.next().unwrap_or_default();
    let environment: Vec<_> = parts.filter_map(variable).collect();
    for preset in [Preset::Production, Preset::Dev("/var/tmp/dev".into())] {
        let (path, sources) = file("given.toml", text, preset.clone());
        match Config::load(&sources, environment.clone()) {
            Ok(config) => assert_renders(&config, preset),
            Err(ConfigError::Refused(problems)) => {
                assert!(!problems.is_empty());
                for problem in problems {
                    assert!(!problem.message.is_empty(), "{problem:?}");
                    assert!(!problem.to_string().contains('\0'), "{problem}");
                }
            }
            Err(error @ ConfigError::Read { .. }) => panic!("{} can be read: {error}", path.display()),
        }
    }
});

fn assert_renders(config: &Config, preset: Preset) {
    let rendered = config.render();
    let (_, sources) = file("rendered.toml", rendered.as_bytes(), preset);
    let again = Config::load(&sources, []).unwrap_or_else(|error| panic!("{error}\n{rendered}"));
    assert_eq!(&again, config, "{rendered}");
    assert_eq!(again.render(), rendered);
}

fn file(name: &str, text: &[u8], preset: Preset) -> (PathBuf, Sources) {
    let path = FOLDER.path().join(name);
    fs::write(&path, text).expect("there is room for a file");
    let file = ConfigFile::Required(path.clone());
    (path, Sources { preset, file, listen: None, state_dir: None })
}

fn variable(bytes: &[u8]) -> Option<(OsString, OsString)> {
    let equals = bytes.iter().position(|&byte| byte == b'=')?;
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((text(&bytes[..equals]), text(&bytes[equals + 1..])))
}
