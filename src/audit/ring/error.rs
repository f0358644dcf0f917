//! Why the ring could not be opened or written.

use std::io;
use std::path::PathBuf;

use rusqlite::ffi::{
    SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE, SQLITE_ERROR,
    SQLITE_IOERR_SHORT_READ,
};
use rusqlite::types::Type;
use rusqlite::{Error, ErrorCode};

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
    /// The file is a ring no more.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What tells it.
        reason: &'static str,
    },
    /// A reader found the file damaged.
    #[error("a reader found the ring damaged: {0}")]
    FoundDamaged(String),
    /// Another ring was damaged a moment ago: something damages whatever is written.
    #[error("the ring is damaged again, so soon after it was replaced: {0}")]
    DamagedAgain(String),
    /// There is no ring to write now.
    #[error("there is no ring file now")]
    Gone,
    /// SQLite failed.
    #[error("can't {act}")]
    Sqlite {
        /// What was tried.
        act: &'static str,
        /// What SQLite says.
        #[source]
        source: Error,
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
        let conversion = matches!(self, Self::Sqlite { source: Error::ToSqlConversionFailure(_), .. });
        let codes = [ErrorCode::ConstraintViolation, ErrorCode::TooBig, ErrorCode::TypeMismatch];
        conversion || !self.is_damage() && self.sqlite_code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the file itself is damaged, so that trying again can't help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::FoundDamaged(_) => true,
            Self::Sqlite { source, .. } => is_damage(source),
            _ => false,
        }
    }
}

/// Whether a statement on a ring that is open failed because the file is damaged: SQLite says so, or it holds what no ring holds.
pub(in crate::audit) fn is_damage(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || [
                    // Our statements are right, so a table or column that they name is gone.
                    SQLITE_ERROR,
                    // A file that ends too early.
                    SQLITE_IOERR_SHORT_READ,
                    // The accounts name an ordinal that is taken.
                    SQLITE_CONSTRAINT_PRIMARYKEY,
                    SQLITE_CONSTRAINT_ROWID,
                    SQLITE_CONSTRAINT_UNIQUE,
                ]
                .contains(&failure.extended_code)
        }
        Error::SqlInputError { error, .. } => {
            error.extended_code == SQLITE_ERROR || error.code == ErrorCode::DatabaseCorrupt
        }
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::QueryReturnedNoRows
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// The ring file holds what no ring holds.
pub(in crate::audit) fn damaged(what: &'static str) -> Error {
    Error::FromSqlConversionFailure(0, Type::Null, what.into())
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
