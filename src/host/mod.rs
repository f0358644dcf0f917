//! The node itself: what is read from it and what is changed on it.
//!
//! One file a facility, each with its readings as plain types and the methods of [`Host`] that fill them. Knows neither
//! HTTP nor audit. `paths` alone joins `/proc`, `/sys` and `/etc`; `command` alone starts a process.

pub mod clock;
mod paths;

use std::io;
use std::path::PathBuf;

pub use paths::Paths;

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
}

impl Host {
    /// The node whose file tree is at `paths`.
    pub const fn new(paths: Paths, changes: Changes) -> Self {
        Self { paths, changes }
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
}
