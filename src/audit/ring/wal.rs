//! The WAL stays within its cap: it is moved into the database in good time, and where that can't be, nothing more is written.

use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::Row;

use super::error::During as _;
use super::{Gate, Ring, RingError};
use crate::audit::budget::PAGE_BYTES;

/// How long another program's lock on the file is waited for.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of the WAL: frames in it, and how many of them are in the database already.
#[derive(Clone, Copy, Debug)]
struct Wal {
    frames: u64,
    moved: u64,
}

impl Ring {
    /// Moves the WAL's pages into the database when there are many. To be called when nobody waits.
    pub fn checkpoint(&mut self) -> Result<(), RingError> {
        let frames = self.wal_checkpoint("NOOP")?.frames;
        if frames < self.budget.wal_frames() / 2 {
            return Ok(());
        }
        if frames < self.budget.wal_frames() / 4 * 3 {
            return self.move_wal();
        }
        // Readers of this process wait for a moment; those of another process are not waited for.
        let gate = Gate::clone(&self.gate);
        let _no_reader = gate.write().unwrap_or_else(PoisonError::into_inner);
        self.busy_timeout(Duration::ZERO)?;
        let restarted = self.wal_checkpoint("RESTART").map(drop);
        self.busy_timeout(BUSY_TIMEOUT)?;
        restarted
    }

    /// Moves what it can without waiting for anyone. The first time is when the database takes its space.
    pub(super) fn move_wal(&self) -> Result<(), RingError> {
        self.wal_checkpoint("PASSIVE").map(drop)
    }

    /// A WAL at its cap that can't start again takes no further batch.
    pub(super) fn free_wal(&mut self) -> Result<(), RingError> {
        let is_full = |ring: &Self| {
            let wal = ring.wal_checkpoint("NOOP")?;
            let batch_frames = ring.budget.batch_bytes() as u64 / PAGE_BYTES;
            Ok(wal.frames > wal.moved && wal.frames + batch_frames > ring.budget.wal_frames())
        };
        if !is_full(self)? {
            return Ok(());
        }
        self.checkpoint()?;
        if is_full(self)? { Err(RingError::WalHeld) } else { Ok(()) }
    }

    fn wal_checkpoint(&self, mode: &str) -> Result<Wal, RingError> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        // Negative where SQLite can't tell, because another program is at it.
        let count = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
        let wal = |row: &Row<'_>| Ok(Wal { frames: count(row, 1)?, moved: count(row, 2)? });
        let wal = self.connection.prepare_cached(&sql).and_then(|mut pragma| pragma.query_row([], wal));
        wal.during("move the WAL into the database")
    }

    fn busy_timeout(&self, timeout: Duration) -> Result<(), RingError> {
        self.connection.busy_timeout(timeout).during("set the time to wait for other programs")
    }
}
