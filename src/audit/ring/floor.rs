//! Seqs that may have been given, remembered beside the ring file.
//!
//! A ring that replaces a damaged one has to count on from seqs that nobody can read any more. So seqs are reserved a million
//! at a time in a small file of their own, before the first of them is stored.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::file::sync_dir;
use crate::audit::entry::{EntryId, Seq};

/// Name of the file in the state folder: one decimal number.
const FILE_NAME: &str = "seq.floor";

/// So many seqs are reserved at a time: a write to the disk every million entries.
const RESERVED_SEQS: u64 = 1_000_000;

/// Above it no seq has been given.
#[derive(Debug)]
pub(super) struct SeqFloor {
    state_dir: PathBuf,
    end: Seq,
    /// Whether the last attempt to write failed: it is told once.
    failing: bool,
}

impl SeqFloor {
    /// What is reserved in the state folder; nothing where the file is missing or holds no number that a seq can have.
    pub(super) fn open(state_dir: &Path) -> Self {
        let text = fs::read_to_string(state_dir.join(FILE_NAME)).unwrap_or_default();
        let end = text.trim().parse().ok().filter(|&end| end < EntryId::SEQ_END);
        Self { state_dir: state_dir.to_owned(), end: Seq(end.unwrap_or(0)), failing: false }
    }

    /// The highest seq that may have been given.
    pub(super) const fn seq(&self) -> Seq {
        self.end
    }

    /// Reserves further seqs where `seq` is beyond them.
    ///
    /// Where the file can't be written, storing goes on, and it is tried again with the next batch: only together with a
    /// damaged ring could a seq be given twice.
    pub(super) fn cover(&mut self, seq: Seq) {
        if seq <= self.end {
            return;
        }
        let end = Seq(seq.0 + RESERVED_SEQS);
        match self.write(end) {
            Ok(()) => (self.end, self.failing) = (end, false),
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                log::warn!("can't write {}: {error}", self.state_dir.join(FILE_NAME).display());
            }
            Err(_) => {}
        }
    }

    fn write(&self, end: Seq) -> io::Result<()> {
        let new = self.state_dir.join("seq.floor.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", end.0)?;
        file.sync_all()?;
        fs::rename(&new, self.state_dir.join(FILE_NAME))?;
        sync_dir(&self.state_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seqs_are_reserved_before_they_are_given_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut floor = SeqFloor::open(dir.path());
        assert_eq!(floor.seq(), Seq(0));
        floor.cover(Seq(1));
        assert_eq!(SeqFloor::open(dir.path()).seq(), Seq(1 + RESERVED_SEQS));
        floor.cover(Seq(5));
        floor.cover(Seq(2 + RESERVED_SEQS));
        assert_eq!(SeqFloor::open(dir.path()).seq(), Seq(2 + 2 * RESERVED_SEQS));
    }

    #[test]
    fn a_file_without_a_number_reserves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "???").unwrap();
        assert_eq!(SeqFloor::open(dir.path()).seq(), Seq(0));
    }
}
