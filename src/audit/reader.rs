//! Reading the ring: pages, single entries, exports, the ring's description.
//!
//! Read-only connections, one a concurrent reader. Every step is one short read transaction that passes the ring's gate, so
//! that no reader holds the WAL. Gives entries borrowed from their rows to a visitor; formats are made elsewhere.

mod common;
mod cursor;
#[cfg(test)]
mod fixture;
mod memory;
mod merge;
mod newest;
mod predicate;
mod rows;
mod scan;
mod values;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::class::Class;
use super::entry::{EntryId, Seq, ServedEntry};
use super::ring::{FILE_NAME, FileId, Gate, Origin, damaged, is_damage};
use crate::report;
pub use cursor::{ClassCounts, Cursor, Gap, GapReason, Known, Walk};
use memory::Memory;
pub use merge::Order;
pub use scan::{Scan, ScanStep, Search};

/// How many readers work at the same time; others wait for their turn.
pub(crate) const CONCURRENT_READERS: usize = 4;

/// Why the ring could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite failed. Where the file is damaged, the gate knows it, and the writer sets it aside with its next act.
    #[error("can't read the ring {}", path.display())]
    Sqlite {
        /// The ring file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Another file has the name of the ring, or none has.
    #[error("{} is not the ring that is written", path.display())]
    Moved {
        /// The ring file.
        path: PathBuf,
    },
}

/// The entries of one class that the ring holds: ordinals `first..=last`; where there is none, `last` is before `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    first: u64,
    last: u64,
}

impl Held {
    /// How many entries.
    pub(super) const fn entries(self) -> u64 {
        self.last + 1 - self.first
    }

    /// Their ordinals.
    fn range(self) -> Range<u64> {
        self.first..self.last + 1
    }
}

/// What the ring file says of one class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClassFacts {
    /// The class.
    pub class: Class,
    /// Entries held.
    pub entries: u64,
    /// The oldest entry held.
    pub oldest: Option<Oldest>,
    /// Seq of the newest entry held.
    pub newest: Option<Seq>,
    /// Entries that aged out.
    pub evicted: u64,
    /// Calls that could not be recorded.
    pub dropped: u64,
    /// Changes whose outcome is unknown.
    pub interrupted: u64,
    /// Entries of rings before this one that were damaged or missing, as far as it was known how many.
    pub lost: u64,
    /// Calls that are counted in the entry of another one.
    pub coalesced: u64,
    /// The calls of the entries that aged out.
    pub evicted_calls: u64,
}

/// The oldest entry of a class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Oldest {
    /// Its seq.
    pub seq: Seq,
    /// When its call arrived, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The same in microseconds since the boot.
    pub monotonic_us: i64,
    /// That boot.
    pub boot_id: Uuid,
}

/// What the ring file says of itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RingFacts {
    /// The UUID of this file's life.
    pub epoch: Uuid,
    /// When the file was made, milliseconds since 1970.
    pub created_ms: i64,
    /// Why it was made.
    pub origin: Origin,
    /// The classes.
    pub classes: [ClassFacts; 3],
}

/// The read side of a ring.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    gate: Gate,
    turns: Arc<Semaphore>,
    /// Sessions of the present file that do nothing now.
    idle: Arc<Mutex<Vec<Session>>>,
}

/// A connection and what it remembers.
#[derive(Debug)]
struct Session {
    connection: Connection,
    memory: Memory,
}

impl Reader {
    /// The read side of the ring in `state_dir`.
    pub fn new(state_dir: &Path, gate: Gate) -> Self {
        let turns = Arc::new(Semaphore::new(CONCURRENT_READERS));
        let idle = Arc::<Mutex<Vec<Session>>>::default();
        let to_forget = Arc::clone(&idle);
        gate.before_replacement(move || lock(&to_forget).clear());
        Self { path: state_dir.join(FILE_NAME), gate, turns, idle }
    }

    /// Waits for one of the places of concurrent readers. Take one before a call of the methods below.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// How often the ring was replaced since the start.
    pub fn generation(&self) -> u64 {
        self.gate.generation()
    }

    /// Visits the entry with that ID. False where there is none, or no longer.
    pub fn entry(&self, id: EntryId, mut visit: impl FnMut(&ServedEntry<'_>)) -> Result<bool, ReadError> {
        let Some(class) = id.class() else { return Ok(false) };
        self.step(|transaction, memory| {
            let range = held(transaction)?[class.index()].range();
            let ordinal = rows::place_of(transaction, memory, class, id.seq(), range.clone())?;
            let mut found = false;
            if !range.contains(&ordinal) {
                return Ok(found);
            }
            rows::one(transaction, memory, class, ordinal, &mut |entry| {
                if entry.id == id {
                    visit(entry);
                    found = true;
                }
            })?;
            Ok(found)
        })
    }

    /// What the ring file says of itself.
    pub fn facts(&self) -> Result<RingFacts, ReadError> {
        self.step(|transaction, memory| {
            let held = held(transaction)?;
            let (epoch, created_ms, origin): (_, _, String) =
                transaction.query_row("SELECT epoch, created_ms, origin FROM ring", [], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
            let origin = Origin::parse(&origin).ok_or_else(|| damaged("no ring begins like this"))?;
            let [change, read, denied] =
                Class::ALL.map(|class| rows::class_facts(transaction, memory, class, held[class.index()]));
            Ok(RingFacts { epoch: Uuid::from_bytes(epoch), created_ms, origin, classes: [change?, read?, denied?] })
        })
    }

    /// Runs one bounded read in a transaction, so that it sees one state of the ring.
    fn step<T>(&self, read: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let present = self.gate.pass();
        let idle = lock(&self.idle).pop();
        let mut session = idle.map_or_else(|| self.open_session(*present), Ok)?;
        match session.step(read) {
            Ok(value) => {
                lock(&self.idle).push(session);
                Ok(value)
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    fn open_session(&self, present: Option<FileId>) -> Result<Session, ReadError> {
        let session = Session::open(&self.path).map_err(|source| self.failed(source))?;
        match FileId::of(&self.path) {
            Ok(file) if file.is_some() && file == present => Ok(session),
            _ => Err(ReadError::Moved { path: self.path.clone() }),
        }
    }

    /// Names what failed, and tells the writer where the file is at fault. To be called within the gate.
    fn failed(&self, source: rusqlite::Error) -> ReadError {
        let is_damage = is_damage(&source);
        let error = ReadError::Sqlite { path: self.path.clone(), source };
        if is_damage {
            self.gate.report_damage(report::chain(&error));
        }
        error
    }
}

impl Session {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -1_024)?;
        Ok(Self { connection, memory: Memory::default() })
    }

    fn step<T>(
        &mut self,
        read: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self.connection.transaction()?;
        let value = read(&transaction, &mut self.memory)?;
        transaction.commit()?;
        Ok(value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ring's epoch.
fn epoch(transaction: &Transaction<'_>) -> rusqlite::Result<[u8; 16]> {
    transaction.prepare_cached("SELECT epoch FROM ring")?.query_row([], |row| row.get(0))
}

/// How many entries of a class aged out: the ordinal of the last of them.
fn evicted(transaction: &Transaction<'_>, class: Class) -> rusqlite::Result<u64> {
    let evicted: u64 = transaction
        .prepare_cached("SELECT evicted FROM loss WHERE class = ?1")?
        .query_row([class.index()], |row| row.get(0))?;
    if evicted > i64::MAX.unsigned_abs() - 2 {
        return Err(damaged("more was evicted than was ever stored"));
    }
    Ok(evicted)
}

/// The ordinals that each class holds.
fn held(transaction: &Transaction<'_>) -> rusqlite::Result<[Held; 3]> {
    // One question, because a step asks it whatever else it reads; in the order of `Class::ALL`.
    const ENDS: &str = "SELECT (SELECT min(ordinal) FROM change), (SELECT max(ordinal) FROM change), \
        (SELECT min(ordinal) FROM read), (SELECT max(ordinal) FROM read), \
        (SELECT min(ordinal) FROM denied), (SELECT max(ordinal) FROM denied)";
    let ends: [(Option<u64>, Option<u64>); 3] = transaction.prepare_cached(ENDS)?.query_row([], |row| {
        Ok([(row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?), (row.get(4)?, row.get(5)?)])
    })?;
    let mut all = [Held { first: 1, last: 0 }; 3];
    for (class, ends) in Class::ALL.into_iter().zip(ends) {
        all[class.index()] = match ends {
            // Only pages that are not this table's can say that.
            (Some(first), Some(last)) if first > last || first == 0 => {
                return Err(damaged("a class ends before it begins"));
            }
            (Some(first), Some(last)) => Held { first, last },
            _ => {
                let last = evicted(transaction, class)?;
                Held { first: last + 1, last }
            }
        };
    }
    Ok(all)
}
