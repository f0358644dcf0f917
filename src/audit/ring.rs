//! The ring file: where entries are stored, and the only code that writes it.
//!
//! Owned by the writer's thread. Takes batches, stores each in one transaction with what it evicts, and returns when the batch
//! is on stable storage. Knows neither who waits for that nor HTTP.

mod damage;
mod error;
mod file;
mod floor;
mod rows;
mod wal;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::budget::{Budget, PAGE_BYTES};
use super::class::Class;
use super::entry::{Call, Entry, Seq};
use super::retention::{Limits, Retention};
use error::During as _;
use floor::SeqFloor;

pub use damage::kept_aside;
pub use error::RingError;
pub use file::{FILE_NAME, SCHEMA_VERSION};
pub(super) use rows::CALL_COLUMNS;

/// Where the ring is, how large it may get, and which boot this is.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// `audit.max_entries`.
    pub max_entries: u64,
    /// `audit.max_bytes`: database, WAL and shared-memory file together.
    pub max_bytes: u64,
    /// Each class's share, in percent.
    pub guarantee_percent: [u64; 3],
    /// The boot ID of the kernel.
    pub boot_id: Uuid,
    /// The wall clock at the start, milliseconds since 1970.
    pub started_ms: i64,
}

impl RingOptions {
    /// Entries of a class that no other class can evict, however large all of them are: its share of the entries, or of the
    /// largest ones that the bytes hold.
    pub fn guarantee_entries(&self, class: Class) -> u64 {
        let largest = Budget::new(self.max_bytes).charge_bytes() / PAGE_BYTES;
        self.max_entries.min(largest) * self.guarantee_percent[class.index()] / 100
    }

    fn limits(&self) -> Limits {
        Limits {
            max_entries: self.max_entries,
            max_charge_bytes: Budget::new(self.max_bytes).charge_bytes(),
            guarantee_percent: self.guarantee_percent,
        }
    }
}

/// Held for reading during each step of a reader, and for writing when the WAL has to start again: no reader can pin it.
pub type Gate = Arc<RwLock<()>>;

/// The number of a stored intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntentNumber(pub u64);

/// One thing to store.
#[derive(Clone, Debug)]
pub enum Record {
    /// A change that is about to happen.
    Intent(IntentNumber, Call),
    /// A finished call, and the intent that it closes.
    Entry(Seq, Entry, Option<IntentNumber>),
    /// So many calls of a class could not be recorded.
    Dropped(Class, u64),
}

impl Record {
    /// The entry, if it is one.
    pub const fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(_, entry, _) => Some(entry),
            Self::Intent(..) | Self::Dropped(..) => None,
        }
    }

    fn seq(&self) -> Option<Seq> {
        match self {
            Self::Entry(seq, ..) => Some(*seq),
            Self::Intent(..) | Self::Dropped(..) => None,
        }
    }

    /// What the record takes in the ring file, an upper bound.
    pub fn bytes(&self) -> usize {
        let bytes = match self {
            Self::Intent(_, call) => rows::row_bytes(call),
            Self::Entry(_, entry, _) => rows::row_bytes(&entry.call),
            Self::Dropped(..) => 0,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Pages beside those of the entries that a transaction may need: inner pages, small tables.
const SPARE_PAGES: u64 = 8;

/// An open ring.
#[derive(Debug)]
pub struct Ring {
    connection: Connection,
    options: RingOptions,
    budget: Budget,
    gate: Gate,
    /// Held while the ring is open: two writers would give the same seqs.
    _lock: File,
    floor: SeqFloor,
    run: i64,
    run_tag: u32,
    /// None after a failed transaction: memory and file may differ, so the file is read again first.
    state: Option<State>,
}

/// What the file holds, kept in memory.
#[derive(Debug)]
struct State {
    last_seq: Seq,
    retention: Retention,
    /// Operation ID and permission to number.
    operations: HashMap<(String, String), i64>,
}

impl Ring {
    /// Opens the ring in the state folder, or makes one, and turns the intents that an earlier run left open into entries.
    ///
    /// A damaged file is set aside, and a new ring with a new epoch takes its place.
    pub fn open(options: &RingOptions) -> Result<Self, RingError> {
        let lock = file::lock(&options.state_dir)?;
        match Self::open_file(options, &lock) {
            Err(damage) if damage.is_damage() => {
                damage::set_aside(options)?;
                Self::open_file(options, &lock)
            }
            opened => opened,
        }
    }

    fn open_file(options: &RingOptions, lock: &File) -> Result<Self, RingError> {
        let budget = Budget::new(options.max_bytes);
        let floor = SeqFloor::open(&options.state_dir);
        let mut connection = file::open(options, budget, floor.seq())?;
        let (run, run_tag) = file::begin_run(&mut connection, options)?;
        let gate = Gate::default();
        let lock = lock.try_clone().map_err(|source| RingError::File {
            act: "lock the state folder",
            path: options.state_dir.clone(),
            source,
        })?;
        let mut ring =
            Self { connection, options: options.clone(), budget, gate, _lock: lock, floor, run, run_tag, state: None };
        ring.fit_limits()?;
        ring.close_open_intents()?;
        ring.move_wal()?;
        file::reserve_wal(options, budget);
        Ok(ring)
    }

    /// The seq of the newest entry.
    pub fn last_seq(&mut self) -> Result<Seq, RingError> {
        Ok(self.state()?.last_seq)
    }

    /// The tag in the IDs of the entries of this run.
    pub const fn run_tag(&self) -> u32 {
        self.run_tag
    }

    /// The gate that readers of this ring go through.
    pub fn gate(&self) -> Gate {
        Gate::clone(&self.gate)
    }

    /// How many intents may be open at a time, so that the file can hold them.
    pub fn open_intents_max(&self) -> usize {
        self.budget.open_intents()
    }

    /// How many bytes of entries one batch should hold at most.
    pub fn batch_bytes(&self) -> usize {
        self.budget.batch_bytes()
    }

    /// Stores a batch in one transaction and returns when it is on stable storage. Entries have rising seqs.
    ///
    /// After an error nothing or everything of the batch is stored; storing it again stores it once.
    pub fn store(&mut self, batch: &[Record]) -> Result<(), RingError> {
        let last_stored = self.last_seq()?;
        if batch.iter().find_map(Record::seq).is_some_and(|first| first <= last_stored) {
            // The transaction that seemed to fail did not, and it was this whole batch.
            return Ok(());
        }
        self.floor.cover(batch.iter().rev().find_map(Record::seq).unwrap_or(last_stored));
        self.free_wal()?;
        self.free_pages()?;
        self.transact("store a batch of entries", |run, transaction, state| {
            batch.iter().try_for_each(|record| apply(run, transaction, state, record))
        })
    }

    fn state(&mut self) -> Result<&mut State, RingError> {
        if self.state.is_none() {
            let loaded = rows::load(&self.connection, self.options.limits()).during("read the ring's accounts")?;
            self.state = Some(loaded);
        }
        Ok(self.state.as_mut().expect("it was just loaded"))
    }

    /// Runs `act` in one transaction. Where it fails, memory is read again from the file before the next one.
    fn transact<T>(
        &mut self,
        what: &'static str,
        act: impl FnOnce(i64, &Transaction<'_>, &mut State) -> rusqlite::Result<T>,
    ) -> Result<T, RingError> {
        self.state()?;
        let mut state = self.state.take().expect("it was just read");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).during(what)?;
        let done = act(self.run, &transaction, &mut state).during(what)?;
        transaction.commit().during(what)?;
        self.state = Some(state);
        Ok(done)
    }

    /// Evicts until the ring fits limits that may have been lowered since the last start.
    fn fit_limits(&mut self) -> Result<(), RingError> {
        self.transact("shrink the ring to its limits", |_, transaction, state| {
            while state.retention.is_over() {
                evict(transaction, state, state.retention.must_give(None))?;
            }
            Ok(())
        })?;
        file::shrink(&self.connection, self.budget).during("shrink the ring file")
    }

    /// The charges are estimates, the page cap is not: gives up further extents while a batch might not fit.
    fn free_pages(&mut self) -> Result<(), RingError> {
        let needed = self.budget.batch_bytes() as u64 / PAGE_BYTES + SPARE_PAGES;
        let pages = self.budget.pages();
        if file::pages_used(&self.connection).during("count the ring's pages")? + needed <= pages {
            return Ok(());
        }
        self.transact("make room in the ring", |_, transaction, state| {
            while state.retention.entries() > 0 && file::pages_used(transaction)? + needed > pages {
                evict(transaction, state, state.retention.must_give(None))?;
            }
            Ok(())
        })
    }

    /// Changes that were begun and whose outcome is unknown become entries that say so.
    fn close_open_intents(&mut self) -> Result<(), RingError> {
        self.transact("record interrupted changes", |_, transaction, state| {
            for (number, row_bytes) in rows::open_intents(transaction)? {
                let charge_bytes = super::budget::charge_bytes(row_bytes);
                let ordinal = admit(transaction, state, Class::Change, charge_bytes)?;
                state.last_seq.0 += 1;
                rows::insert_interrupted(transaction, number, ordinal, state.last_seq)?;
                rows::add_loss(transaction, Class::Change, "interrupted", 1)?;
            }
            Ok(())
        })
    }
}

fn apply(run: i64, transaction: &Transaction<'_>, state: &mut State, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Intent(number, call) => {
            let operation = operation_number(transaction, state, call)?;
            rows::insert_intent(transaction, run, *number, call, operation)
        }
        Record::Entry(seq, entry, intent) => {
            let operation = operation_number(transaction, state, &entry.call)?;
            let charge_bytes = super::budget::charge_bytes(rows::row_bytes(&entry.call));
            let ordinal = admit(transaction, state, entry.class, charge_bytes)?;
            state.last_seq = *seq;
            rows::insert_entry(transaction, run, ordinal, *seq, entry, operation)?;
            if entry.calls > 1 {
                rows::add_loss(transaction, entry.class, "coalesced", entry.calls - 1)?;
            }
            intent.map_or(Ok(()), |number| rows::delete_intent(transaction, number))
        }
        Record::Dropped(class, calls) => rows::add_loss(transaction, *class, "dropped", *calls),
    }
}

/// Makes room for an entry and gives it its ordinal.
fn admit(transaction: &Transaction<'_>, state: &mut State, class: Class, charge_bytes: u64) -> rusqlite::Result<u64> {
    while let Some(victim) = state.retention.victim(class, charge_bytes) {
        evict(transaction, state, victim)?;
    }
    let (ordinal, completed) = state.retention.admit(class, charge_bytes);
    if let Some(extent) = completed {
        rows::insert_extent(transaction, class, extent)?;
    }
    Ok(ordinal)
}

fn evict(transaction: &Transaction<'_>, state: &mut State, class: Class) -> rusqlite::Result<()> {
    let (evicted, left) = state.retention.evict(class);
    rows::delete_extent(transaction, class, evicted)?;
    if let Some(left) = left {
        rows::insert_extent(transaction, class, left)?;
    }
    Ok(())
}

fn operation_number(transaction: &Transaction<'_>, state: &mut State, call: &Call) -> rusqlite::Result<Option<i64>> {
    let Some(operation) = call.operation else {
        return Ok(None);
    };
    let key = (operation.id.to_owned(), operation.permission.as_str().to_owned());
    if let Some(&number) = state.operations.get(&key) {
        return Ok(Some(number));
    }
    transaction.execute("INSERT INTO operation (operation_id, permission) VALUES (?1, ?2)", params![key.0, key.1])?;
    let number = transaction.last_insert_rowid();
    state.operations.insert(key, number);
    Ok(Some(number))
}
