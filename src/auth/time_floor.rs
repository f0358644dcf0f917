//! The newest time that has surely been, remembered over restarts.
//!
//! A board without a clock battery boots in the past, where tokens and certificates that have expired live again. So none is accepted
//! while the clock is before a time that has been: the `iat` of a token that was accepted by a fleet's key, a clock which was
//! synchronised, and the year of this program. A clock that nobody synchronises can't push it into the future, nor can a token that this
//! node has issued itself by such a clock.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use crate::host::clock;

/// Name of the file in the state folder: seconds from 1970, one decimal number.
const FILE_NAME: &str = "time.floor";

/// 2026-01-01: this program is younger.
const PROGRAM_S: i64 = 1_767_225_600;

/// So far it moves before it is written again: flash lasts, and a power cut takes an hour of it at most.
const STEP_S: i64 = 3_600;

/// The floor.
#[derive(Debug)]
pub struct TimeFloor {
    file: PathBuf,
    floor_s: AtomicI64,
    written_s: AtomicI64,
}

impl TimeFloor {
    /// What the state folder remembers; the year of this program where the file is missing or holds no number.
    pub fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE_NAME);
        let written_s = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(PROGRAM_S);
        let floor_s = written_s.max(PROGRAM_S);
        Self { file, floor_s: AtomicI64::new(floor_s), written_s: AtomicI64::new(written_s) }
    }

    /// Whether a clock that shows `now_s` is wrong: before the floor by more than `leeway_s`.
    pub fn is_before(&self, now_s: i64, leeway_s: u8) -> bool {
        now_s.saturating_add(leeway_s.into()) < self.floor_s.load(Ordering::Relaxed)
    }

    /// This time has been.
    pub fn raise(&self, to_s: i64) {
        // Read first: nearly always it is far beyond that, and what is only read all workers can have at once.
        if self.floor_s.load(Ordering::Relaxed) < to_s {
            self.floor_s.fetch_max(to_s, Ordering::Relaxed);
        }
    }

    /// Takes the wall clock where it is synchronised, and writes the floor down where it is more than an hour beyond what is written.
    /// Blocks.
    pub fn keep(&self) {
        self.take_clock();
        if self.floor_s.load(Ordering::Relaxed) >= self.written_s.load(Ordering::Relaxed).saturating_add(STEP_S) {
            self.write_down();
        }
    }

    /// The same at the end, however far it is.
    pub fn keep_at_end(&self) {
        self.take_clock();
        if self.floor_s.load(Ordering::Relaxed) > self.written_s.load(Ordering::Relaxed) {
            self.write_down();
        }
    }

    fn take_clock(&self) {
        if clock::is_synchronised() {
            self.raise(clock::wall_clock_ms().div_euclid(1_000));
        }
    }

    fn write_down(&self) {
        let floor_s = self.floor_s.load(Ordering::Relaxed);
        match self.write(floor_s) {
            Ok(()) => self.written_s.store(floor_s, Ordering::Relaxed),
            Err(error) => log::warn!("can't write {}: {error}", self.file.display()),
        }
    }

    /// After a power cut the old or the new number is there.
    fn write(&self, floor_s: i64) -> io::Result<()> {
        let new = self.file.with_extension("floor.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{floor_s}")?;
        file.sync_all()?;
        fs::rename(&new, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_only_rises_and_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let floor = TimeFloor::open(dir.path());
        assert!(floor.is_before(PROGRAM_S - 6, 5) && !floor.is_before(PROGRAM_S - 5, 5));
        assert!(floor.is_before(0, 5) && floor.is_before(i64::MIN, 5) && !floor.is_before(i64::MAX, 5));
        let later = PROGRAM_S + 4_000_000_000;
        floor.raise(later);
        floor.raise(PROGRAM_S);
        assert!(floor.is_before(later - 1, 0) && !floor.is_before(later, 0));
        floor.keep();
        assert!(TimeFloor::open(dir.path()).is_before(later - 1, 0));
    }

    #[test]
    fn small_steps_are_written_at_the_end_only() {
        let dir = tempfile::tempdir().unwrap();
        let floor = TimeFloor::open(dir.path());
        let far = PROGRAM_S + 4_000_000_000;
        floor.raise(far);
        floor.keep();
        floor.raise(far + STEP_S - 1);
        floor.keep();
        assert!(!TimeFloor::open(dir.path()).is_before(far, 0));
        floor.keep_at_end();
        assert!(TimeFloor::open(dir.path()).is_before(far, 0));
    }

    #[test]
    fn a_file_without_a_number_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "???").unwrap();
        assert!(!TimeFloor::open(dir.path()).is_before(PROGRAM_S, 0));
    }
}
