//! The operating system: `os-release(5)` and `uname(2)`.

use std::collections::HashMap;

use nix::sys::utsname::uname;
use schemars::JsonSchema;
use serde::Serialize;

use super::file::{read_text_if_any, read_word};
use super::{Host, HostError, Paths};

/// The operating system and its kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Os {
    /// Name for people, such as `Debian GNU/Linux 12 (bookworm)` (`PRETTY_NAME`, `os-release(5)`).
    pub pretty_name: String,
    /// Name without a version (`NAME`).
    pub name: String,
    /// Name for programs, such as `debian` (`ID`).
    pub id: String,
    /// Version for people (`VERSION`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version for programs, such as `12` (`VERSION_ID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Variant of the system for programs (`VARIANT_ID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// The build that the node was installed from (`BUILD_ID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The system image (`IMAGE_ID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The version of the system image (`IMAGE_VERSION`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_version: Option<String>,
    /// Release of the running kernel, such as `6.1.0-37-amd64` (`uname -r`).
    pub kernel_release: String,
    /// Build of the running kernel (`uname -v`).
    pub kernel_version: String,
    /// Architecture of the running kernel, such as `x86_64` or `aarch64` (`uname -m`).
    pub architecture: String,
}

impl Host {
    /// The operating system and its kernel.
    pub async fn os(&self) -> Result<Os, HostError> {
        let paths = self.paths.clone();
        self.storage.run("the operating system's description", move || read(&paths)).await
    }
}

/// What os-release(5) and the kernel say. A system without the file is named by the manual's defaults.
pub(super) fn read(paths: &Paths) -> Result<Os, HostError> {
    let release = match read_text_if_any(&paths.etc("os-release"))? {
        Some(text) => text,
        None => read_text_if_any(&paths.usr("lib/os-release"))?.unwrap_or_default(),
    };
    let mut fields: HashMap<&str, String> = release.lines().filter_map(assignment).collect();
    let mut take = |name| fields.remove(name).filter(|value| !value.is_empty());
    let uname = uname().map_err(|errno| HostError::unavailable("uname(2)", errno.to_string()))?;
    Ok(Os {
        pretty_name: take("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        name: take("NAME").unwrap_or_else(|| "Linux".to_owned()),
        id: take("ID").unwrap_or_else(|| "linux".to_owned()),
        version: take("VERSION"),
        version_id: take("VERSION_ID"),
        variant_id: take("VARIANT_ID"),
        build_id: take("BUILD_ID"),
        image_id: take("IMAGE_ID"),
        image_version: take("IMAGE_VERSION"),
        kernel_release: read_word(&paths.proc("sys/kernel/osrelease"))?,
        kernel_version: read_word(&paths.proc("sys/kernel/version"))?,
        architecture: uname.machine().to_string_lossy().into_owned(),
    })
}

fn assignment(line: &str) -> Option<(&str, String)> {
    let line = line.trim();
    let (name, value) = line.split_once('=')?;
    (!line.starts_with('#')).then(|| (name, unquote(value)))
}

/// A value as a shell reads it: single quotes keep everything, elsewhere a backslash keeps the next character.
fn unquote(value: &str) -> String {
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut plain = String::with_capacity(value.len());
    let mut characters = quoted.unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    const DEBIAN: &str = r#"PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
# a comment
ID=debian
IMAGE_ID='edge-gateway'
BUILD_ID=""
HOME_URL="https://www.debian.org/"
"#;

    fn kernel(tree: Tree) -> Tree {
        tree.with("proc/sys/kernel/osrelease", "6.1.0-37-amd64\n")
            .with("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.140-1\n")
    }

    #[test]
    fn os_release_is_read_from_etc() {
        let tree = kernel(Tree::new().with("etc/os-release", DEBIAN).with("usr/lib/os-release", "ID=other\n"));
        let os = block_on(tree.host().os()).unwrap();
        assert_eq!(os.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!((os.id.as_str(), os.version_id.as_deref()), ("debian", Some("12")));
        assert_eq!(os.image_id.as_deref(), Some("edge-gateway"));
        assert_eq!(os.build_id, None);
        assert_eq!(os.kernel_release, "6.1.0-37-amd64");
    }

    #[test]
    fn os_release_falls_back_to_usr_and_then_to_the_manuals_defaults() {
        let tree = kernel(Tree::new().with("usr/lib/os-release", "ID=other\n"));
        let os = block_on(tree.host().os()).unwrap();
        assert_eq!((os.id.as_str(), os.name.as_str()), ("other", "Linux"));
        let os = block_on(kernel(Tree::new()).host().os()).unwrap();
        assert_eq!((os.id.as_str(), os.pretty_name.as_str()), ("linux", "Linux"));
    }

    #[test]
    fn values_are_unquoted_as_a_shell_does() {
        assert_eq!(unquote("plain"), "plain");
        assert_eq!(unquote(r#""a \"b\" \$c""#), r#"a "b" $c"#);
        assert_eq!(unquote(r"'a \b'"), r"a \b");
        assert_eq!(unquote(r"a\ b"), "a b");
        assert_eq!(unquote("\""), "\"");
    }
}
