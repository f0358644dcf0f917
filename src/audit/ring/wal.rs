//! The WAL stays within its cap: it is moved into the database in good time, and where that can't be, nothing more is written.

use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{ErrorCode, MAIN_DB};

use super::error::During as _;
use super::{Gate, Ring, RingError};

/// How long another program's lock on the file is waited for.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

impl Ring {
    /// Moves the WAL's pages into the database when there are many. To be called when nobody waits.
    pub fn checkpoint(&mut self) -> Result<(), RingError> {
        match self.checkpoint_here() {
            Err(error) if error.is_damage() => self.replace_damaged(&error),
            done => done,
        }
    }

    fn checkpoint_here(&mut self) -> Result<(), RingError> {
        let frames = self.frames()?;
        debug_assert!(frames <= self.budget.wal_frames(), "{frames} frames are more than the WAL has room for");
        if frames < self.budget.wal_frames() / 2 {
            return Ok(());
        }
        if frames < self.budget.wal_frames() / 4 * 3 {
            return self.move_wal();
        }
        self.restart_wal().map(drop)
    }

    /// Moves what it can without waiting for anyone. The first time is when the database takes its space.
    pub(super) fn move_wal(&mut self) -> Result<(), RingError> {
        self.wal_checkpoint(CheckpointMode::PASSIVE).map(drop)
    }

    /// A WAL that might not hold a further batch has to start again first; where it can't, nothing more is written.
    pub(super) fn free_wal(&mut self) -> Result<(), RingError> {
        if self.frames()? + self.budget.batch_frames() <= self.budget.wal_frames() {
            return Ok(());
        }
        if self.restart_wal()? { Ok(()) } else { Err(RingError::WalHeld) }
    }

    /// Moves all of the WAL into the database; false where someone is in the way. To be called while the gate is closed.
    pub(super) fn empty_wal(&mut self) -> Result<bool, RingError> {
        Ok(self.wal_checkpoint(CheckpointMode::TRUNCATE)?.is_some())
    }

    /// Moves all of the WAL and has the next transaction begin it anew; false where a reader is in the way.
    fn restart_wal(&mut self) -> Result<bool, RingError> {
        // Readers of this process wait for a moment; those of another process are not waited for.
        let gate = Gate::clone(&self.gate);
        let _no_reader = gate.close();
        self.busy_timeout(Duration::ZERO)?;
        let wal = self.wal_checkpoint(CheckpointMode::RESTART);
        self.busy_timeout(BUSY_TIMEOUT)?;
        Ok(wal?.is_some())
    }

    /// Frames in the WAL; 0 where SQLite can't tell, because another program is at it: then that is waited for when something is stored.
    fn frames(&mut self) -> Result<u64, RingError> {
        self.wal_checkpoint(CheckpointMode::NOOP).map(Option::unwrap_or_default)
    }

    /// Frames in the WAL after a checkpoint; none where someone keeps it from being done. No PRAGMA, which SQLite would prepare anew each
    /// time: that takes as many instructions as storing an entry.
    fn wal_checkpoint(&mut self, mode: CheckpointMode) -> Result<Option<u64>, RingError> {
        match self.file()?.connection.wal_checkpoint_v2(Some(MAIN_DB), mode) {
            Ok((frames, _)) => Ok(Some(u64::try_from(frames).unwrap_or(0))),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(None),
            Err(error) => Err(error).during("move the WAL into the database"),
        }
    }

    fn busy_timeout(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.file()?.connection.busy_timeout(timeout).during("set the time to wait for other programs")
    }
}
