//! The node itself: what is read from it and what is changed on it.
//!
//! One file a facility, each with its readings as plain types and the methods of [`Host`] that fill them. Knows neither
//! HTTP nor audit. `paths` alone joins `/proc`, `/sys` and `/etc`; `command` alone starts a process.

mod bus;
mod change;
pub mod clock;
mod command;
mod disk;
mod dns;
mod file;
#[cfg(test)]
pub(crate) mod fixture;
mod hostname;
mod load;
mod log;
mod memory;
mod network;
mod os;
mod paths;
mod power;
mod service;
mod status;
mod storage;
mod time;
mod timezone;
mod uptime;
mod users;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

pub use self::log::{Lines, Log, LogEntry, LogQuery, UnitName};
pub use self::time::Time;
pub use disk::{Disk, Disks};
pub use dns::Dns;
pub use hostname::{Hostname, HostnameReading};
pub use load::Load;
pub use memory::Memory;
pub use network::{InterfaceName, NetworkInterface, NetworkInterfaces};
pub use os::Os;
pub use paths::Paths;
pub use power::{PowerAccepted, PowerAction};
pub use service::{Service, ServiceAccepted, ServiceAction, ServiceName, ServiceSummary, Services};
pub use status::Status;
pub use timezone::{Timezone, TimezoneName};
pub use uptime::Uptime;
pub use users::Users;

use command::Commands;
use disk::Probes;
use storage::Storage;

/// The most threads that the readings and changes of a node keep waiting at the same time, whatever hangs.
pub(crate) const BLOCKING_THREADS_MAX: usize = storage::STORAGE_SLOTS + disk::PROBE_SLOTS;

/// Whether calls may change the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// They may.
    Apply,
    /// Every change is refused before anything is done: development mode.
    Refuse,
}

/// The node that this agent manages.
#[derive(Clone, Debug)]
pub struct Host {
    paths: Paths,
    changes: Changes,
    commands: Commands,
    storage: Storage,
    probes: Probes,
    changing: Arc<Mutex<()>>,
}

impl Host {
    /// The node whose file tree is at `paths`.
    pub fn new(paths: Paths, changes: Changes) -> Self {
        let (commands, storage, probes) = (Commands::new(), Storage::new(), Probes::new());
        Self { paths, changes, commands, storage, probes, changing: Arc::default() }
    }
}

/// Why a reading or a change of the node did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The caller named a value that this facility does not take.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was named, such as `hostname`.
        what: &'static str,
        /// Why it is not taken.
        reason: String,
    },
    /// The caller named a thing that this node does not have.
    #[error("this node has no {what} {name:?}")]
    Unknown {
        /// The kind of thing, such as `network interface`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// Changes are switched off.
    #[error("this agent does not change the node: it was started with --dev and without --apply-changes")]
    ChangesDisabled,
    /// This node can't do it, or not now: a service is missing, refuses, or does not answer in time.
    #[error("{what} is not available: {reason}")]
    Unavailable {
        /// The facility, such as `systemd-hostnamed`.
        what: &'static str,
        /// Why, as far as it is known.
        reason: String,
    },
    /// A file of the node can't be read or does not have the form that its manual gives.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A file of the node can't be replaced.
    #[error("can't replace {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}
