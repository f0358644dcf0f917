//! The ring described: what `/audit/status` says.

use std::fs;
use std::path::Path;

use super::class::{Class, Durability};
use super::entry::Seq;
use super::reader::{ClassFacts, ReadError, Reader};
use super::ring::{FILE_NAME, Origin, RingOptions, kept_aside};
use super::writer::Writer;
use crate::host::clock;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// The ring and its state.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditStatus {
    /// The UUID of this ring file's life. A new ring has a new epoch.
    pub epoch: Uuid,
    /// When the ring file was made.
    #[schemars(extend("format" = "date-time"))]
    pub created: String,
    /// Why it was made: nothing came before it, or what came before is damaged or missing.
    pub origin: Origin,
    /// Whether entries can be stored.
    pub health: StoreHealth,
    /// Why entries can't be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long the last transaction took that stored entries, in microseconds; none since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit_us: Option<u64>,
    /// Entries held.
    pub entries: u64,
    /// Entries that the ring holds at most.
    pub max_entries: u64,
    /// Bytes of the ring's files, reserved space included: database, WAL and shared memory.
    pub bytes: u64,
    /// Bytes that they have at most.
    pub max_bytes: u64,
    /// Seq of the oldest entry held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<Seq>,
    /// Seq of the newest entry held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<Seq>,
    /// Entries that aged out of the ring.
    pub evicted: u64,
    /// Calls that could not be recorded.
    pub dropped: u64,
    /// Changes whose outcome is unknown, because the agent died between intent and outcome.
    pub interrupted: u64,
    /// Entries of rings before this one that were damaged or missing, as far as it was known how many.
    pub lost: u64,
    /// Refused calls that are counted in the entry of another one, because they came in a flood.
    pub coalesced: u64,
    /// The calls of the entries that aged out: more than `evicted` where some of them stood for several.
    pub evicted_calls: u64,
    /// Damaged ring files that were set aside and are kept in the state folder, the last three at most.
    pub damaged_files: u64,
    /// The retention classes.
    pub classes: Vec<ClassStatus>,
}

/// Whether entries can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreHealth {
    /// The last attempt succeeded.
    Ok,
    /// The last attempt failed; changes are refused.
    Failing,
}

/// One retention class.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClassStatus {
    /// The class.
    pub class: Class,
    /// When callers are answered.
    pub durability: Durability,
    /// The most that a power cut can take, in milliseconds of calls; 0 where durability is strict.
    pub window_ms: u64,
    /// Entries held.
    pub entries: u64,
    /// Entries of this class that no other class can evict, however large all of them are.
    pub guarantee_entries: u64,
    /// Seq of the oldest entry held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<Seq>,
    /// Seq of the newest entry held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<Seq>,
    /// Age of the oldest entry held, by the wall clock: how far back this class can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon_seconds: Option<u64>,
    /// Entries that aged out of the ring.
    pub evicted: u64,
    /// Calls that could not be recorded.
    pub dropped: u64,
    /// Changes whose outcome is unknown.
    pub interrupted: u64,
    /// Entries of rings before this one that were damaged or missing.
    pub lost: u64,
    /// Calls that are counted in the entry of another one.
    pub coalesced: u64,
    /// The calls of the entries that aged out.
    pub evicted_calls: u64,
}

impl AuditStatus {
    /// The ring as it is now.
    pub fn gather(options: &RingOptions, reader: &Reader, writer: &Writer) -> Result<Self, ReadError> {
        let facts = reader.facts()?;
        let unsaved = writer.dropped();
        let classes = facts.classes.map(|facts| ClassStatus::of(facts, options, writer, unsaved[facts.class.index()]));
        let failure = writer.health().err().map(|error| error.to_string());
        let sum = |counter: fn(&ClassStatus) -> u64| classes.iter().map(counter).sum();
        Ok(Self {
            epoch: facts.epoch,
            created: clock::rfc3339(facts.created_ms),
            origin: facts.origin,
            health: if failure.is_some() { StoreHealth::Failing } else { StoreHealth::Ok },
            failure,
            last_commit_us: writer.metrics().last_commit_us,
            entries: sum(|class| class.entries),
            max_entries: options.max_entries,
            bytes: bytes_of_files(&options.state_dir),
            max_bytes: options.max_bytes,
            first_seq: classes.iter().filter_map(|class| class.first_seq).min(),
            last_seq: classes.iter().filter_map(|class| class.last_seq).max(),
            evicted: sum(|class| class.evicted),
            dropped: sum(|class| class.dropped),
            interrupted: sum(|class| class.interrupted),
            lost: sum(|class| class.lost),
            coalesced: sum(|class| class.coalesced),
            evicted_calls: sum(|class| class.evicted_calls),
            damaged_files: kept_aside(&options.state_dir).len() as u64,
            classes: classes.into(),
        })
    }
}

impl ClassStatus {
    fn of(facts: ClassFacts, options: &RingOptions, writer: &Writer, unsaved_dropped: u64) -> Self {
        let (durability, window) = writer.durability(facts.class);
        let age_ms =
            |(_, since_ms): (Seq, i64)| u64::try_from(clock::wall_clock_ms().saturating_sub(since_ms)).unwrap_or(0);
        Self {
            class: facts.class,
            durability,
            window_ms: match durability {
                Durability::Strict => 0,
                Durability::Relaxed => u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            },
            entries: facts.entries,
            guarantee_entries: options.guarantee_entries(facts.class),
            first_seq: facts.oldest.map(|(seq, _)| seq),
            last_seq: facts.newest,
            horizon_seconds: facts.oldest.map(|oldest| age_ms(oldest) / 1_000),
            evicted: facts.evicted,
            dropped: facts.dropped + unsaved_dropped,
            interrupted: facts.interrupted,
            lost: facts.lost,
            coalesced: facts.coalesced,
            evicted_calls: facts.evicted_calls,
        }
    }
}

fn bytes_of_files(state_dir: &Path) -> u64 {
    let names = [String::from(FILE_NAME), format!("{FILE_NAME}-wal"), format!("{FILE_NAME}-shm")];
    names.iter().filter_map(|name| fs::metadata(state_dir.join(name)).ok()).map(|file| file.len()).sum()
}
