//! The service manager, as its service sees it.
//!
//! Owns the two halves of its protocol: [`Notifier`] tells it how the agent is (`sd_notify(3)`), [`Sockets`] takes what it has bound
//! for the agent (`sd_listen_fds(3)`). Works without it, too: then nobody is told, and nothing is taken. Knows no part of the
//! agent.

mod notifier;
mod sockets;

use std::path::PathBuf;

pub use notifier::Notifier;
pub use sockets::{PassedSocket, SocketError, Sockets};

/// The folder that it has made for what the agent needs while it runs (`RuntimeDirectory=`, systemd.exec(5)); the first of several.
pub fn runtime_directory() -> Option<PathBuf> {
    let folders = std::env::var("RUNTIME_DIRECTORY").ok()?;
    folders.split(':').next().map(PathBuf::from).filter(|folder| folder.is_absolute())
}
