//! The ring described: what `/audit/status` says.

use std::fs;
use std::path::Path;

use super::class::{Class, Durability};
use super::entry::Seq;
use super::rate::Rates;
use super::reader::{ClassFacts, Oldest, ReadError, Reader, RingFacts};
use super::ring::{FILE_NAME, Origin, RingOptions, kept_aside};
use super::writer::Writer;
use crate::host::clock;
use nix::sys::resource::{UsageWho, getrusage};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// How often the ring is read again where what it does not count yet has changed meanwhile.
const FACTS_TRIES: usize = 3;

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
    /// Bytes that the agent has had written to storage since its start, as the kernel counts them (`getrusage(2)`): each page of memory
    /// each time that it has to be written, the ring's files and all else.
    pub written_bytes: u64,
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
    /// Age of the oldest entry held: how far back this class can be read. By the time since the boot where the entry is of this boot, and by
    /// the wall clock where it is of another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon_seconds: Option<u64>,
    /// Entries stored in an hour, at the rate of the last hour by the time since the boot; absent in the agent's first minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries_per_hour: Option<u64>,
    /// How long an entry that is stored now will be held at that rate: until as many have come as the class holds, or as it is guaranteed.
    /// Absent where none come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
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
        let (facts, unsaved) = facts(reader, writer)?;
        let counts = writer.metrics();
        let classes = facts
            .classes
            .map(|facts| ClassStatus::of(facts, options, writer, &counts.rates, unsaved[facts.class.index()]));
        let failure = writer.health().err().map(|error| error.to_string());
        let sum = |counter: fn(&ClassStatus) -> u64| classes.iter().map(counter).sum();
        Ok(Self {
            epoch: facts.epoch,
            created: clock::rfc3339(facts.created_ms),
            origin: facts.origin,
            health: if failure.is_some() { StoreHealth::Failing } else { StoreHealth::Ok },
            failure,
            last_commit_us: counts.last_commit_us,
            written_bytes: written_bytes(),
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

/// What the ring file says, and the dropped calls that it does not count yet. Between two looks at those, a commit can have brought them into
/// the file; then both are read again.
fn facts(reader: &Reader, writer: &Writer) -> Result<(RingFacts, [u64; 3]), ReadError> {
    let mut unsaved = writer.dropped();
    let mut facts = reader.facts()?;
    for _ in 0..FACTS_TRIES {
        let after = std::mem::replace(&mut unsaved, writer.dropped());
        if after == unsaved {
            break;
        }
        facts = reader.facts()?;
    }
    Ok((facts, unsaved))
}

impl ClassStatus {
    fn of(facts: ClassFacts, options: &RingOptions, writer: &Writer, rates: &Rates, unsaved_dropped: u64) -> Self {
        let (durability, window) = writer.durability(facts.class);
        let now_us = clock::monotonic_us();
        let entries_per_hour = rates.per_hour(facts.class, now_us);
        let guarantee_entries = options.guarantee_entries(facts.class);
        Self {
            class: facts.class,
            durability,
            window_ms: match durability {
                Durability::Strict => 0,
                Durability::Relaxed => u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            },
            entries: facts.entries,
            guarantee_entries,
            first_seq: facts.oldest.map(|oldest| oldest.seq),
            last_seq: facts.newest,
            horizon_seconds: facts.oldest.map(|oldest| age_s(&oldest, options, now_us)),
            entries_per_hour,
            retention_seconds: retention_s(facts.entries.max(guarantee_entries), entries_per_hour),
            evicted: facts.evicted,
            dropped: facts.dropped + unsaved_dropped,
            interrupted: facts.interrupted,
            lost: facts.lost,
            coalesced: facts.coalesced,
            evicted_calls: facts.evicted_calls,
        }
    }
}

/// How long ago an entry was made.
fn age_s(oldest: &Oldest, options: &RingOptions, now_us: i64) -> u64 {
    let age_ms = if oldest.boot_id == options.boot_id {
        now_us.saturating_sub(oldest.monotonic_us) / 1_000
    } else {
        clock::wall_clock_ms().saturating_sub(oldest.timestamp_ms)
    };
    u64::try_from(age_ms).unwrap_or(0) / 1_000
}

/// How long it takes until so many entries have come.
fn retention_s(entries: u64, per_hour: Option<u64>) -> Option<u64> {
    entries.saturating_mul(3_600).checked_div(per_hour?)
}

fn written_bytes() -> u64 {
    /// What `getrusage(2)` counts in.
    const BLOCK_BYTES: u64 = 512;
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| u64::try_from(usage.block_writes()).unwrap_or(0).saturating_mul(BLOCK_BYTES))
}

fn bytes_of_files(state_dir: &Path) -> u64 {
    let names = [String::from(FILE_NAME), format!("{FILE_NAME}-wal"), format!("{FILE_NAME}-shm")];
    names.iter().filter_map(|name| fs::metadata(state_dir.join(name)).ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_for_as_long_as_it_takes_to_fill() {
        assert_eq!(retention_s(40_000, Some(20_000)), Some(7_200));
        assert_eq!(retention_s(40_000, Some(0)), None, "for ever");
        assert_eq!(retention_s(40_000, None), None);
    }
}
