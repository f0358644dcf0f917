//! What every change of the node goes through: the switch, and one change at a time.

use std::io;
use std::path::Path;

use tokio::sync::OwnedMutexGuard;

use super::{Changes, Host, HostError};

/// Held while the node is changed; two changes never interleave.
pub(super) struct Change {
    _alone: OwnedMutexGuard<()>,
}

impl Host {
    /// Begins a change that the caller has described well; refused where changes are switched off.
    pub(super) async fn begin_change(&self) -> Result<Change, HostError> {
        self.permit_change()?;
        Ok(Change { _alone: self.changing.clone().lock_owned().await })
    }

    /// Whether the switch allows changes.
    pub(super) const fn permit_change(&self) -> Result<(), HostError> {
        match self.changes {
            Changes::Apply => Ok(()),
            Changes::Refuse => Err(HostError::ChangesDisabled),
        }
    }
}

impl HostError {
    /// This node can't do it, or not now.
    pub(super) fn unavailable(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Unavailable { what, reason: reason.into() }
    }

    /// A file can't be read.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// A file can't be replaced: this node does not let the agent, or its storage fails.
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound => {
                Self::unavailable(
                    "changing the node's files",
                    format!("{} can't be replaced by this agent: {source}", path.display()),
                )
            }
            _ => Self::Write { path: path.to_owned(), source },
        }
    }
}
