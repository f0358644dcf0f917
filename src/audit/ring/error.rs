//! Why the ring could not be opened or written.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the ring could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The state folder or the ring file can't be made or used.
    #[error("can't {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another agent has the state folder.
    #[error("another agent uses the state folder {}", state_dir.display())]
    InUse {
        /// The folder.
        state_dir: PathBuf,
    },
    /// Another program reads the file without an end, so the WAL can't start again.
    #[error("the WAL is full: another program has held a read transaction on the ring for too long")]
    WalHeld,
    /// The file is no ring, or one of a newer agent.
    #[error("{} is not a ring that this agent knows: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is different.
        reason: String,
    },
    /// SQLite failed.
    #[error("can't {act}")]
    Sqlite {
        /// What was tried.
        act: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer's thread can't be started.
    #[error("can't start the writer's thread")]
    Thread {
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no random bytes for a new epoch.
    #[error("the kernel gives no random bytes")]
    Random,
}

impl RingError {
    fn sqlite_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code(),
            _ => None,
        }
    }

    /// Whether what was to be stored is at fault, and not the store.
    pub fn is_about_the_data(&self) -> bool {
        let conversion = matches!(self, Self::Sqlite { source: rusqlite::Error::ToSqlConversionFailure(_), .. });
        let codes = [ErrorCode::ConstraintViolation, ErrorCode::TooBig, ErrorCode::TypeMismatch];
        conversion || self.sqlite_code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the file itself is damaged, so that trying again can't help.
    pub fn is_damage(&self) -> bool {
        matches!(self.sqlite_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

/// Names the act in which SQLite failed.
pub(super) trait During<T> {
    fn during(self, act: &'static str) -> Result<T, RingError>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, act: &'static str) -> Result<T, RingError> {
        self.map_err(|source| RingError::Sqlite { act, source })
    }
}
