//! Which files the ring's are: by device and inode, whatever their names name.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::file::{FILE_NAME, shm_of, wal_of};

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that `path` names now; none where it names none.
    pub(in crate::audit) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.into())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<Metadata> for FileId {
    fn from(metadata: Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What became of the names of the files that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// They name the same files, as far as can be told.
    Same,
    /// The WAL or its index is no longer what its name names. What is written there is lost when it is closed.
    WalGone,
    /// The database is no longer what its name names.
    DatabaseGone,
}

/// The files of the ring that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) database: Option<FileId>,
    wal: Option<FileId>,
    shm: Option<FileId>,
}

impl Identity {
    /// The files in the state folder, when they have just been opened.
    pub(super) fn of(state_dir: &Path) -> Self {
        let database = state_dir.join(FILE_NAME);
        let id = |path: &Path| FileId::of(path).ok().flatten();
        Self { database: id(&database), wal: id(&wal_of(&database)), shm: id(&shm_of(&database)) }
    }

    /// What the names in the state folder name now. Three calls of stat(2).
    pub(super) fn compare(&self, state_dir: &Path) -> Names {
        let database = state_dir.join(FILE_NAME);
        // Where it can't be told, the store fails by itself.
        let is_gone = |path: &Path, known| FileId::of(path).is_ok_and(|now| now != known);
        if is_gone(&database, self.database) {
            Names::DatabaseGone
        } else if is_gone(&wal_of(&database), self.wal) || is_gone(&shm_of(&database), self.shm) {
            Names::WalGone
        } else {
            Names::Same
        }
    }
}
