//! The folder with what was read: `NAME.ndjson` and `NAME.cursor.json` of each node.
//!
//! A cursor is stored after the entries that it accounts for, and says how long the file was then. What is behind that is cut off
//! when the reading goes on, so that whenever a run ends, nothing is missing and nothing is there twice. A file without a cursor
//! is not cut off, but gets another name:
//!
//! ```text
//! t0  entries are appended                   killed here: they are cut off, and read again
//! t1  fdatasync of the entries               the same
//! t2  cursor into a temporary file, fsync    the same
//! t3  rename over the cursor, fsync of the folder
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::nodes::NodeName;
use super::output::Output;
use super::place::{Place, sync_folder_of};

/// Why what is read can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another run writes there.
    #[error("another pull writes into {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file can't be read or written, or is not what it should be.
    #[error("can't use {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// What an error of that file is.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, source }
}

/// The folder, for one run.
pub struct Store {
    folder: PathBuf,
    _lock: Flock<fs::File>,
}

/// What was read of one node.
pub(super) struct Kept {
    output_path: PathBuf,
    place_path: PathBuf,
    output: Output,
    pub(super) place: Option<Place>,
}

impl Store {
    /// Opens the folder, or makes it; nobody else can then.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed(folder))?;
        let path = folder.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&path);
        let lock = Flock::lock(file.map_err(failed(&path))?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => StoreError::InUse { path: folder.to_owned() },
            errno => StoreError::File { path, source: errno.into() },
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// What was read of a node, brought into step with its cursor.
    pub(super) fn node(&self, name: &NodeName) -> Result<Kept, StoreError> {
        let output_path = self.folder.join(format!("{name}.ndjson"));
        let place_path = self.folder.join(format!("{name}.cursor.json"));
        let mut place = Place::load(&place_path).map_err(failed(&place_path))?;
        if let Some(place) = &mut place
            && place.output_bytes > 0
            && !output_path.exists()
        {
            // Someone has moved it away. The cursor says so before there is a new one, which is shorter.
            place.output_bytes = 0;
            place.store(&place_path).map_err(failed(&place_path))?;
        }
        if place.is_none() {
            put_aside(&output_path).map_err(failed(&output_path))?;
        }
        let bytes = place.as_ref().map_or(0, |place| place.output_bytes);
        let output = Output::open(&output_path, bytes).map_err(failed(&output_path))?;
        Ok(Kept { output_path, place_path, output, place })
    }
}

/// Gives another name to a file with entries that no cursor accounts for. A run that died before its first cursor leaves one, whose
/// entries come again; so does someone who removes a cursor, and then they may be in no ring any more.
fn put_aside(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    let free = (1_u64..).map(|number| {
        let mut name = name.clone();
        name.push(number.to_string());
        PathBuf::from(name)
    });
    let free = free.into_iter().find(|free| !free.exists());
    fs::rename(path, free.expect("there are not so many files"))?;
    sync_folder_of(path)
}

impl Kept {
    /// Adds lines, then moves the cursor behind them. Where that fails, as on a full disk, nothing of them stays.
    pub(super) fn add(&mut self, lines: &[u8], place: Place) -> Result<(), StoreError> {
        let before = self.output.bytes;
        let added = self.try_add(lines, place);
        // What fails last is the sync behind the rename: then the cursor has moved all the same.
        let accounted = || Place::load(&self.place_path).map(|place| place.map_or(0, |place| place.output_bytes));
        if added.is_err() && accounted().is_ok_and(|accounted| accounted <= before) {
            self.output.cut(before);
        }
        added
    }

    fn try_add(&mut self, lines: &[u8], mut place: Place) -> Result<(), StoreError> {
        if !lines.is_empty() {
            self.output.append(lines).map_err(failed(&self.output_path))?;
        }
        place.output_bytes = self.output.bytes;
        if self.place.as_ref() != Some(&place) {
            place.store(&self.place_path).map_err(failed(&self.place_path))?;
            self.place = Some(place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn place(after: u64) -> Place {
        Place { epoch: Uuid::nil(), after, known: "1.2.3".to_owned(), etag: None, output_bytes: 0 }
    }

    #[test]
    fn what_is_not_accounted_for_is_cut_off_and_what_is_stays() {
        let folder = tempfile::tempdir().unwrap();
        let name = NodeName::parse("a").unwrap();
        let output = folder.path().join("a.ndjson");
        let store = Store::open(folder.path()).unwrap();
        store.node(&name).unwrap().output.append(b"half a li").unwrap();
        let mut kept = store.node(&name).unwrap();
        assert_eq!((kept.place.as_ref(), fs::read(&output).unwrap()), (None, Vec::new()));
        assert_eq!(fs::read(folder.path().join("a.ndjson.1")).unwrap(), b"half a li");
        kept.add(b"one\n", place(1)).unwrap();
        kept.output.append(b"two\nth").unwrap();
        let kept = store.node(&name).unwrap();
        assert_eq!((kept.place.unwrap().after, fs::read(&output).unwrap()), (1, b"one\n".to_vec()));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_and_one_that_is_too_short_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let name = NodeName::parse("a").unwrap();
        let output = folder.path().join("a.ndjson");
        let store = Store::open(folder.path()).unwrap();
        store.node(&name).unwrap().add(b"one\n", place(1)).unwrap();
        fs::write(&output, b"on").unwrap();
        assert!(matches!(store.node(&name), Err(StoreError::File { path, .. }) if path == output));
        fs::remove_file(&output).unwrap();
        // It ends before anything is added, and again.
        for _ in 0..2 {
            assert_eq!(store.node(&name).unwrap().place.unwrap().after, 1);
        }
        store.node(&name).unwrap().add(b"two\n", place(2)).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"two\n");
    }

    #[test]
    fn entries_whose_cursor_is_gone_are_kept_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = NodeName::parse("a").unwrap();
        let store = Store::open(folder.path()).unwrap();
        for text in [b"one\n", b"two\n"] {
            store.node(&name).unwrap().add(text, place(1)).unwrap();
            fs::remove_file(folder.path().join("a.cursor.json")).unwrap();
        }
        assert_eq!(store.node(&name).unwrap().place, None);
        let kept = ["a.ndjson.1", "a.ndjson.2"].map(|name| fs::read(folder.path().join(name)).unwrap());
        assert_eq!(kept, [b"one\n", b"two\n"]);
    }

    #[test]
    fn a_cursor_that_is_none_is_not_taken_for_a_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let name = NodeName::parse("a").unwrap();
        let store = Store::open(folder.path()).unwrap();
        for text in [
            "",
            "{}",
            "{\"epoch\":\"00000000-0000-0000-0000-000000000000\",\"after\":1,\"known\":\"x&y\",\"output_bytes\":0}",
        ] {
            fs::write(folder.path().join("a.cursor.json"), text).unwrap();
            assert!(store.node(&name).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_one_runs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse { .. })));
        drop(store);
        Store::open(folder.path()).unwrap();
    }
}
