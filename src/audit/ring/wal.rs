//! The WAL stays within its cap: it is moved into the database in good time, and where that can't be, nothing more is written.

use std::time::Duration;

use rusqlite::Row;

use super::error::During as _;
use super::taken::AtMost;
use super::{Gate, Ring, RingError, dirty_pages};

/// How long another program's lock on the file is waited for.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a checkpoint found.
#[derive(Clone, Copy, Debug)]
struct Wal {
    /// Whether someone kept it from being done.
    is_busy: bool,
    /// Frames in the WAL.
    frames: u64,
}

impl Ring {
    /// Moves the WAL's pages into the database when there are many. To be called when nobody waits.
    pub fn checkpoint(&mut self) -> Result<(), RingError> {
        match self.checkpoint_here() {
            Err(error) if error.is_damage() => self.replace_damaged(&error),
            done => done,
        }
    }

    fn checkpoint_here(&mut self) -> Result<(), RingError> {
        let many = self.budget.wal_frames() / 2;
        let frames = self.frames(many - 1)?;
        if frames < many {
            return Ok(());
        }
        if frames < self.budget.wal_frames() / 4 * 3 {
            return self.move_wal();
        }
        self.restart_wal().map(drop)
    }

    /// Moves what it can without waiting for anyone. The first time is when the database takes its space.
    pub(super) fn move_wal(&mut self) -> Result<(), RingError> {
        self.wal_checkpoint("PASSIVE").map(drop)
    }

    /// A WAL that might not hold a further batch has to start again first; where it can't, nothing more is written.
    pub(super) fn free_wal(&mut self) -> Result<(), RingError> {
        let most = self.budget.wal_frames().saturating_sub(dirty_pages(self.budget.batch_bytes()));
        if self.frames(most)? <= most {
            return Ok(());
        }
        if self.restart_wal()?.is_busy { Err(RingError::WalHeld) } else { Ok(()) }
    }

    /// Moves all of the WAL into the database; false where someone is in the way. To be called while the gate is closed.
    pub(super) fn empty_wal(&mut self) -> Result<bool, RingError> {
        Ok(!self.wal_checkpoint("TRUNCATE")?.is_busy)
    }

    /// Moves all of the WAL and has the next transaction begin it anew, if no reader is in the way.
    fn restart_wal(&mut self) -> Result<Wal, RingError> {
        // Readers of this process wait for a moment; those of another process are not waited for.
        let gate = Gate::clone(&self.gate);
        let _no_reader = gate.close();
        self.busy_timeout(Duration::ZERO)?;
        let wal = self.wal_checkpoint("RESTART");
        self.busy_timeout(BUSY_TIMEOUT)?;
        wal
    }

    /// Frames in the WAL: the most that there may be where that is `enough` or less, else as many as there are.
    fn frames(&mut self, enough: u64) -> Result<u64, RingError> {
        if let Some(at_most) = self.file()?.wal_frames.within(enough) {
            return Ok(at_most);
        }
        let frames = self.wal_checkpoint("NOOP")?.frames;
        self.file()?.wal_frames = AtMost::exactly(frames);
        Ok(frames)
    }

    fn wal_checkpoint(&mut self, mode: &str) -> Result<Wal, RingError> {
        // Where frames are moved, there are fewer from the next transaction on.
        self.file()?.wal_frames = AtMost::default();
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        // Negative where SQLite can't tell, because another program is at it.
        let frames = |row: &Row<'_>| row.get::<_, i64>(1).map(|frames| u64::try_from(frames).unwrap_or(0));
        let wal = |row: &Row<'_>| Ok(Wal { is_busy: row.get(0)?, frames: frames(row)? });
        let wal = self.file()?.connection.prepare_cached(&sql).and_then(|mut pragma| pragma.query_row([], wal));
        wal.during("move the WAL into the database")
    }

    fn busy_timeout(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.file()?.connection.busy_timeout(timeout).during("set the time to wait for other programs")
    }
}
