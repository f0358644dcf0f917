//! `nodeaudit support-bundle`
//!
//! One text with what those who help ask for first. It is made to be read before it is handed on, so it is text and no archive, and
//! holds only what is named here: no entry, no key, no token, no environment.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::Args;
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid};
use serde::Serialize;

use super::error::CliError;
use super::exit::Exit;
use super::options::ConfigOptions;
use super::output::print;
use crate::audit::Reader;
use crate::audit::ring::Gate;
use crate::config::Config;
use crate::host::{Changes, Host, Lines, LogQuery, Paths, clock};
use crate::report;

/// The agent's unit, as it is packaged.
const UNIT: &str = "nodeaudit.service";

/// Print what those who help want to know of this node.
#[derive(Debug, Args)]
pub(super) struct SupportBundle {
    #[command(flatten)]
    options: ConfigOptions,
}

impl SupportBundle {
    pub(super) fn run(self) -> Result<(), CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::of(Exit::OsErr, &error))?;
        let mut bundle = Bundle::new();
        // A configuration that is refused may be the very reason to ask for help: then the rest is told of the defaults.
        let config = match self.options.load(None) {
            Ok(config) => {
                bundle.section("configuration in force", &config.render());
                config
            }
            Err(error) => {
                bundle.section("configuration in force: refused", &error.render());
                Config::default()
            }
        };
        runtime.block_on(node(&mut bundle, &Host::new(Paths::new(&config.host.root), Changes::Refuse)));
        state(&mut bundle, &config.state_dir);
        print(&bundle.text)
    }
}

/// The text, section by section.
struct Bundle {
    text: String,
}

impl Bundle {
    fn new() -> Self {
        let (version, at) = (env!("CARGO_PKG_VERSION"), clock::rfc3339(clock::wall_clock_ms()));
        let architecture = std::env::consts::ARCH;
        let text = format!(
            "nodeaudit {version} ({architecture}), support bundle of {at}.\n\
             No entry, key or token is in it; host names, addresses and names of services are. Read it before you hand it on.\n"
        );
        Self { text }
    }

    fn section(&mut self, title: &str, text: &str) {
        write!(self.text, "\n== {title} ==\n{text}").expect("writing to a String can't fail");
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// What was read, or why it can't be.
    fn reading<T: Serialize>(&mut self, title: &str, reading: Result<T, impl std::error::Error>) {
        let text = match reading {
            Ok(value) => serde_json::to_string_pretty(&value).expect("what is served as JSON is JSON"),
            Err(error) => format!("not available: {}", report::chain(&error)),
        };
        self.section(title, &text);
    }
}

/// The node, and what its journal has of the agent.
async fn node(bundle: &mut Bundle, host: &Host) {
    bundle.reading("operating system", host.os().await);
    bundle.reading("node", host.status().await);
    bundle.reading("disks", host.disks().await);
    bundle.reading("service", host.service(UNIT).await);
    let query = LogQuery { lines: Lines::ALL, unit: Some(UNIT.to_owned()) };
    bundle.reading("log, newest first", host.log(query).await);
}

/// The state folder and the ring in it.
fn state(bundle: &mut Bundle, state_dir: &Path) {
    let title = format!("files in {}", state_dir.display());
    match become_owner(state_dir).and_then(|()| files(state_dir)) {
        Ok(listed) => bundle.section(&title, &listed),
        Err(error) => {
            let text = format!("not available: {error}");
            return bundle.section(&title, &text);
        }
    }
    bundle.reading("ring", Reader::new(state_dir, Gate::to_file_in(state_dir)).facts());
}

/// What SQLite makes beside a ring to read it must be the agent's own, so root becomes its user for the rest of the process.
fn become_owner(state_dir: &Path) -> io::Result<()> {
    let folder = fs::metadata(state_dir)?;
    if geteuid().is_root() {
        setegid(Gid::from_raw(folder.gid()))?;
        seteuid(Uid::from_raw(folder.uid()))?;
    }
    Ok(())
}

fn files(dir: &Path) -> io::Result<String> {
    let mut lines = fs::read_dir(dir)?
        .map(|entry| {
            let (name, file) = entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?)))?;
            let changed = clock::rfc3339(file.mtime().saturating_mul(1_000));
            let (mode, owner, group, bytes) = (file.mode() & 0o7777, file.uid(), file.gid(), file.len());
            Ok(format!("{mode:04o} {owner}:{group} {bytes:>12} {changed} {}\n", name.display()))
        })
        .collect::<io::Result<Vec<_>>>()?;
    lines.sort_by(|one, other| one.rsplit(' ').cmp(other.rsplit(' ')));
    Ok(lines.concat())
}
