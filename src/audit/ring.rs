//! The ring file: where entries are stored, and the only code that writes it.
//!
//! Owned by the writer's thread. Takes batches, stores each in one transaction with what it evicts, and returns when the batch
//! is on stable storage. Knows neither who waits for that nor HTTP.

mod accounts;
mod bind;
mod common;
mod damage;
mod error;
mod file;
mod floor;
mod gate;
mod identity;
mod intent;
mod look;
mod make;
mod migrate;
mod newest;
mod record;
mod replace;
mod rows;
mod sum;
mod version;
mod wal;
mod wal_check;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use uuid::Uuid;

use super::budget::{Budget, ENTRY_CHARGE_MAX, PAGE_BYTES, SPARE_PAGES};
use super::class::Class;
use super::entry::{Call, Seq};
use super::retention::Limits;
use accounts::{Accounts, Loss};
use error::During as _;
use floor::SeqFloor;
use identity::Identity;
use rows::{Inserts, Run};

pub(super) use common::COMMON_COLUMNS;
pub use damage::kept_aside;
pub use error::RingError;
pub(super) use error::{damaged, is_damage};
pub use file::FILE_NAME;
pub use gate::Gate;
pub(super) use identity::FileId;
pub use intent::IntentNumber;
pub use make::Origin;
pub(super) use newest::View;
pub use record::Record;
pub(super) use sum::{Named, Sum};
pub use version::SchemaVersion;

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
        let largest = Budget::new(self.max_bytes).charge_bytes() / ENTRY_CHARGE_MAX;
        self.max_entries.min(largest) * self.guarantee_percent[class.index()] / 100
    }

    fn limits(&self) -> Limits {
        let budget = Budget::new(self.max_bytes);
        Limits {
            max_entries: self.max_entries,
            max_charge_bytes: budget.charge_bytes(),
            max_extent_bytes: budget.extent_bytes(),
            guarantee_percent: self.guarantee_percent,
        }
    }
}

#[cfg(test)]
impl RingOptions {
    /// So many entries, and bytes for them, in a folder: what tests open rings with.
    pub(super) fn plain(state_dir: &std::path::Path, max_entries: u64) -> Self {
        let (boot_id, guarantee_percent) = (Uuid::nil(), [40, 30, 20]);
        Self {
            state_dir: state_dir.into(),
            max_entries,
            max_bytes: 64 << 20,
            guarantee_percent,
            boot_id,
            started_ms: 0,
        }
    }
}

/// An open ring.
#[derive(Debug)]
pub struct Ring {
    options: RingOptions,
    budget: Budget,
    gate: Gate,
    /// Held while the ring is open: two writers would give the same seqs.
    lock: File,
    floor: SeqFloor,
    /// None between a file that is gone and the one that takes its place.
    file: Option<OpenFile>,
    known: Known,
    run_tag: u32,
    /// When the file was last replaced by a new one.
    replaced: Option<Instant>,
}

/// The ring file, open for writing.
#[derive(Debug)]
struct OpenFile {
    connection: Connection,
    identity: Identity,
    run: Run,
    /// None after a failed transaction: memory and file may differ, so the file is read again first.
    accounts: Option<Accounts>,
    /// Pages in use, at most; none where they have to be counted. Counting is two PRAGMAs, which SQLite prepares anew each time: as many
    /// instructions as storing an entry. So what each batch may add is added, until that might be too much.
    pages_at_most: Option<u64>,
}

/// What is known of the ring, whatever becomes of its file.
#[derive(Debug)]
struct Known {
    /// Why the next ring begins, should one have to.
    origin: Origin,
    last_seq: Seq,
    losses: [Loss; 3],
    entries: [u64; 3],
    /// Changes of this run that have begun and not ended.
    intents: BTreeMap<IntentNumber, Call>,
    /// The counts of dropped calls before a batch of which nobody knows whether it is stored.
    unsure: Option<[u64; 3]>,
}

impl Known {
    fn settle(&mut self, accounts: &Accounts) {
        self.last_seq = accounts.last_seq;
        self.losses = accounts.losses;
        self.entries = Class::ALL.map(|class| accounts.retention.entries_of(class));
    }

    /// A batch is stored.
    fn remember(&mut self, batch: &[Record]) {
        self.unsure = None;
        for record in batch {
            match record {
                Record::Intent(number, call) => drop(self.intents.insert(*number, call.clone())),
                Record::Entry(_, _, Some(number)) => drop(self.intents.remove(number)),
                Record::Entry(_, _, None) | Record::Dropped(..) => {}
            }
        }
    }
}

impl Ring {
    /// Opens the ring in the state folder, or makes one, and turns the intents that an earlier run left open into entries.
    ///
    /// A damaged file is set aside, and a new ring with a new epoch takes its place.
    pub fn open(options: &RingOptions) -> Result<Self, RingError> {
        let lock = file::lock(&options.state_dir)?;
        let floor = SeqFloor::open(&options.state_dir);
        let last_seq = floor.seq();
        let origin = if last_seq == Seq(0) { Origin::First } else { Origin::Missing };
        let known = Known {
            origin,
            last_seq,
            losses: [Loss::default(); 3],
            entries: [0; 3],
            intents: BTreeMap::new(),
            unsure: None,
        };
        let mut ring = Self {
            options: options.clone(),
            budget: Budget::new(options.max_bytes),
            gate: Gate::default(),
            lock,
            floor,
            file: None,
            known,
            run_tag: u32::from_le_bytes(make::random()?) & 0xff_ffff,
            replaced: None,
        };
        match ring.begin() {
            Err(error) if error.is_damage() => {
                log::error!("{}", crate::report::chain(&error));
                // How far the damaged file got is not to be trusted.
                ring.known.last_seq = ring.known.last_seq.max(last_seq);
                ring.replace(Origin::Damaged)?;
            }
            begun => begun?,
        }
        *ring.gate.close() = ring.database();
        Ok(ring)
    }

    /// Opens the file as the first act of a run.
    fn begin(&mut self) -> Result<(), RingError> {
        self.open_file()?;
        self.close_open_intents()
    }

    /// The seq of the newest entry.
    pub fn last_seq(&mut self) -> Result<Seq, RingError> {
        Ok(self.accounts()?.last_seq)
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
    /// Looks first whether the file is still the ring. One that is damaged or gone is replaced, and the batch is stored in the new one.
    /// After an error nothing or everything of the batch is stored; storing it again stores it once.
    pub fn store(&mut self, batch: &[Record]) -> Result<(), RingError> {
        let stored = match self.mend().and_then(|()| self.store_here(batch)) {
            Err(error) if error.is_damage() => self.replace_damaged(&error).and_then(|()| self.store_here(batch)),
            stored => stored,
        };
        match stored {
            Ok(()) => self.known.remember(batch),
            // Nobody knows how much of it is in the file.
            Err(_) => self.gate.newest().forget(),
        }
        stored
    }

    fn store_here(&mut self, batch: &[Record]) -> Result<(), RingError> {
        let accounts = self.accounts()?;
        let (last_stored, dropped) = (accounts.last_seq, accounts.losses.map(|loss| loss.dropped));
        if batch.is_empty() || self.is_stored(batch, last_stored, dropped) {
            return Ok(());
        }
        self.floor.cover(batch.iter().rev().find_map(Record::seq).unwrap_or(last_stored));
        self.free_wal()?;
        self.free_pages()?;
        self.known.unsure = Some(dropped);
        let pages_before = self.file()?.pages_at_most;
        let charged_bytes = self.transact("store a batch of entries", |run, transaction, accounts| {
            let mut inserts = Inserts::new(transaction);
            batch.iter().try_for_each(|record| apply(run, transaction, accounts, &mut inserts, record))?;
            Ok(accounts.charged_bytes)
        })?;
        // The charges are estimates: rows that pack badly fill half of their pages.
        self.file()?.pages_at_most = pages_before.map(|pages| pages + 2 * charged_bytes / PAGE_BYTES + SPARE_PAGES);
        if let Some(OpenFile { run, accounts: Some(accounts), .. }) = &self.file {
            self.gate.newest().add(run, Class::ALL.map(|class| accounts.retention.held(class)), batch);
        }
        Ok(())
    }

    /// Whether the transaction that seemed to fail did not, and it was this whole batch.
    fn is_stored(&self, batch: &[Record], last_stored: Seq, dropped: [u64; 3]) -> bool {
        match batch.iter().find_map(Record::seq) {
            Some(first) => first <= last_stored,
            // A batch without an entry is an intent, which is stored once however often, or counts of dropped calls.
            None => self.known.unsure.is_some_and(|before| before != dropped),
        }
    }

    fn file(&mut self) -> Result<&mut OpenFile, RingError> {
        self.file.as_mut().ok_or(RingError::Gone)
    }

    fn accounts(&mut self) -> Result<&mut Accounts, RingError> {
        let limits = self.options.limits();
        let file = self.file()?;
        if file.accounts.is_none() {
            file.accounts = Some(Accounts::load(&file.connection, limits).during("read the ring's accounts")?);
        }
        Ok(file.accounts.as_mut().expect("they were just loaded"))
    }

    /// Runs `act` in one transaction. Where it fails, memory is read again from the file before the next one. Pages have to be counted after
    /// it, unless the caller knows how many it may have added.
    fn transact<T>(
        &mut self,
        what: &'static str,
        act: impl FnOnce(&Run, &Transaction<'_>, &mut Accounts) -> rusqlite::Result<T>,
    ) -> Result<T, RingError> {
        self.accounts()?;
        let file = self.file()?;
        file.pages_at_most = None;
        let mut accounts = file.accounts.take().expect("they were just read");
        accounts.charged_bytes = 0;
        let transaction = file.connection.transaction_with_behavior(TransactionBehavior::Immediate).during(what)?;
        let done = act(&file.run, &transaction, &mut accounts).during(what)?;
        accounts.settle(&transaction).during(what)?;
        transaction.commit().during(what)?;
        self.known.settle(&accounts);
        self.file()?.accounts = Some(accounts);
        Ok(done)
    }

    /// Evicts until the ring fits limits that may have been lowered since the last start, as much at a time as the WAL has room for.
    fn fit_limits(&mut self) -> Result<(), RingError> {
        let at_once_bytes = self.budget.batch_bytes() as u64;
        while self.accounts()?.retention.is_over() {
            match self.free_wal() {
                // Better a WAL that is too large than a node that does not serve while somebody reads the file.
                Ok(()) | Err(RingError::WalHeld) => {}
                Err(error) => return Err(error),
            }
            self.transact("shrink the ring to its limits", |_, transaction, accounts| {
                let mut evicted_bytes = 0;
                while accounts.retention.is_over() && evicted_bytes < at_once_bytes {
                    evicted_bytes += accounts.evict(transaction, accounts.retention.must_give(None))?;
                }
                Ok(())
            })?;
        }
        let budget = self.budget;
        file::shrink(&self.file()?.connection, budget).during("shrink the ring file")
    }

    /// The charges are estimates, the page cap is not: gives up further extents while a batch might not fit.
    fn free_pages(&mut self) -> Result<(), RingError> {
        let needed = self.budget.batch_bytes() as u64 / PAGE_BYTES + SPARE_PAGES;
        let pages = self.budget.pages();
        let file = self.file()?;
        if file.pages_at_most.is_some_and(|at_most| at_most + needed <= pages) {
            return Ok(());
        }
        let used = file::pages_used(&file.connection).during("count the ring's pages")?;
        file.pages_at_most = Some(used);
        if used + needed <= pages {
            return Ok(());
        }
        self.transact("make room in the ring", |_, transaction, accounts| {
            while accounts.retention.entries() > 0 && file::pages_used(transaction)? + needed > pages {
                accounts.evict(transaction, accounts.retention.must_give(None))?;
            }
            Ok(())
        })?;
        // The pages that became free are in the WAL, and the batch is still to come.
        self.free_wal()
    }

    /// Changes that were begun and whose outcome is unknown become entries that say so.
    fn close_open_intents(&mut self) -> Result<(), RingError> {
        self.transact("record interrupted changes", |_, transaction, accounts| {
            for intent in intent::open(transaction)? {
                let ordinal = accounts.admit_alone(transaction, Class::Change, intent.charge_bytes())?;
                accounts.last_seq.0 += 1;
                intent::interrupt(transaction, &intent, ordinal, accounts.last_seq)?;
                accounts.add_loss(transaction, Class::Change, "interrupted", 1)?;
            }
            Ok(())
        })
    }
}

fn apply(
    run: &Run,
    transaction: &Transaction<'_>,
    accounts: &mut Accounts,
    inserts: &mut Inserts<'_>,
    record: &Record,
) -> rusqlite::Result<()> {
    match record {
        Record::Intent(number, call) => {
            let operation = accounts.operation_number(transaction, call)?;
            accounts.charged_bytes += super::budget::charge_bytes(intent::row_bytes(call));
            intent::insert(transaction, run, *number, call, operation)
        }
        Record::Entry(seq, entry, intent) => {
            let (ordinal, common) = accounts.admit(transaction, run, entry.class, &entry.call, *seq)?;
            accounts.last_seq = *seq;
            inserts.entry(ordinal, *seq, entry, common)?;
            if entry.calls > 1 {
                accounts.add_loss(transaction, entry.class, "coalesced", entry.calls - 1)?;
            }
            intent.map_or(Ok(()), |number| intent::delete(transaction, number))
        }
        Record::Dropped(class, calls) => accounts.add_loss(transaction, *class, "dropped", *calls),
    }
}
