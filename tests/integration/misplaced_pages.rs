//! A ring file whose pages are in each other's places, as after a write that went astray.
//!
//! SQLite has no checksum over the pages of a database, so it can't always tell. Whatever it takes them for: nothing panics, and no
//! number is beyond what the file can hold.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use nodeaudit::audit::ring::{FILE_NAME, Record, Ring, RingOptions, kept_aside};
use nodeaudit::audit::{Arrival, Call, Class, Entry, Filter, Order, Outcome, ReadError, Reader, Seq};
use uuid::Uuid;

const PAGE_BYTES: usize = 4096;
const ENTRIES: u64 = 90;

#[test]
fn pages_in_each_others_places_give_errors_and_no_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut ring = Ring::open(&options(dir)).unwrap();
    ring.store(&(1..=ENTRIES).map(record).collect::<Vec<_>>()).unwrap();
    drop(ring);
    assert_eq!(read(dir).unwrap(), ENTRIES, "the control: whole, it holds all");
    let whole = fs::read(dir.join(FILE_NAME)).unwrap();
    let pages = whole.iter().rposition(|&byte| byte != 0).unwrap() / PAGE_BYTES + 1;

    let mut noticed = 0;
    for (from, to) in (1..pages).flat_map(|from| (1..pages).map(move |to| (from, to))).filter(|(from, to)| from != to) {
        let mut damaged = whole.clone();
        damaged.copy_within(page(from), page(to).start);
        for left in fs::read_dir(dir).unwrap() {
            fs::remove_file(left.unwrap().path()).unwrap();
        }
        fs::write(dir.join(FILE_NAME), damaged).unwrap();
        // Its accounts can be unreadable too: an error, not a panic, is all that is asked for.
        let Ok(mut ring) = Ring::open(&options(dir)) else {
            noticed += 1;
            continue;
        };
        let total = read_through(dir, &ring);
        assert!(total.as_ref().is_ok_and(|&total| total <= whole.len() as u64) || total.is_err(), "{from} over {to}");
        let stored = ring.last_seq().and_then(|Seq(last)| ring.store(&[record(last + 1)]));
        noticed += u32::from(total.is_err() || stored.is_err() || !kept_aside(dir).is_empty());
    }
    assert!(noticed > 0, "SQLite can tell some of it");
}

fn page(number: usize) -> Range<usize> {
    number * PAGE_BYTES..(number + 1) * PAGE_BYTES
}

fn read(dir: &Path) -> Result<u64, ReadError> {
    read_through(dir, &Ring::open(&options(dir)).unwrap())
}

/// The number of entries, after all of them were read in both ways.
fn read_through(dir: &Path, ring: &Ring) -> Result<u64, ReadError> {
    let reader = Reader::new(dir, ring.gate());
    let facts = reader.facts()?;
    let mut ids = Vec::new();
    let all = Filter::default();
    let total = reader.search(&all, 100, 0, |entry| ids.push(entry.id))?.total;
    reader.search(&all, 100, total / 2, |_| {})?;
    assert_eq!(facts.classes.iter().map(|class| class.entries).sum::<u64>(), total);
    if let Some(id) = ids.last() {
        reader.entry(*id, |_| {})?;
    }
    let mut scan = reader.scan(&all, Order::OldestFirst)?;
    while !scan.is_done() {
        reader.scan_step(&mut scan, 50, |_| {})?;
    }
    Ok(total)
}

fn options(dir: &Path) -> RingOptions {
    RingOptions {
        state_dir: dir.to_owned(),
        max_entries: 100,
        max_bytes: 1 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: Uuid::from_u128(0x00c0_ffee),
        started_ms: 1_000,
    }
}

fn record(seq: u64) -> Record {
    // One class has more entries than the others: its ordinals are beyond theirs.
    let class = Class::ALL[usize::try_from(seq % 5 % 3).unwrap()];
    let call = Call {
        arrival: Arrival { timestamp_ms: 1_000, monotonic_us: 77, clock_synced: true },
        method: "GET".into(),
        path: format!("/{}", "p".repeat(300)).into(),
        operation: None,
        actor: Arc::default(),
        source_ip: Ipv4Addr::LOCALHOST.into(),
        trace_id: None,
        user_agent: None,
        forwarded_for: None,
    };
    let entry =
        Entry { call, class, outcome: Outcome::Completed, response_code: 200, duration_us: 1, calls: 1, span_us: 0 };
    Record::Entry(Seq(seq), entry, None)
}
