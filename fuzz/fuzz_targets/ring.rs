//! A damaged ring file: bytes changed, pages lost, doubled or old, files cut short.
//!
//! The input is a list of damages, done to a small ring with a WAL that is not yet moved into the database. Then the ring is opened, read
//! through and written. Nothing panics or hangs, and no page is longer than was asked for. A ring that was set aside is replaced by
//! an empty one whose seqs go on.
//!
//! What can be told: every frame of the WAL has a checksum, so where the WAL alone is damaged each entry served is one that was
//! stored, byte for byte; its last transactions may be missing. What can't: pages of the database have no checksum, so a text changed
//! in its place is served as changed, and so is a page that is old. There, only the absence of panics and hangs is asserted.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use nodeaudit::audit::ring::{FILE_NAME, IntentNumber, Record, Ring, RingError, RingOptions, kept_aside};
use nodeaudit::audit::{
    Arrival, Call, Class, Entry, EntryId, Filter, Order, Outcome, ReadError, Reader, Seq, ServedEntry,
};
use nodeaudit::auth::{Actor, AuthMethod};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

const PAGE_BYTES: usize = 4096;
const WAL_NAME: &str = "ring.sqlite-wal";
const FLOOR_NAME: &str = "seq.floor";

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("there is room for a folder"));
static WHOLE: LazyLock<Files> = LazyLock::new(Files::make);

fuzz_target!(|input: &[u8]| {
    let (files, damage) = WHOLE.damaged(input);
    let dir = FOLDER.path();
    files.write(dir);
    check(dir, &damage);
});

/// What an input did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Damage {
    database: bool,
    wal: bool,
    floor: bool,
    /// The header of the database, or what stands for it in the WAL.
    header: bool,
}

fn check(dir: &Path, damage: &Damage) {
    let mut ring = match Ring::open(&options(dir)) {
        Ok(ring) => ring,
        Err(error) => {
            // A header that says another version or another program is taken at its word.
            let explained = matches!(error, RingError::Foreign { .. }) && damage.header;
            assert!(explained || damage.database, "{damage:?}: {error:?}");
            return;
        }
    };
    let was_set_aside = !kept_aside(dir).is_empty();
    assert!(!was_set_aside || damage.database || damage.wal, "nothing was damaged: {damage:?}");
    let reader = Reader::new(dir, ring.gate());
    let is_sound = was_set_aside || !damage.database;
    let served = serve(&reader);
    assert!(served.is_ok() || !is_sound, "{served:?}");
    if let (Ok(served), true) = (&served, is_sound) {
        assert!(!was_set_aside || served.is_empty(), "a new ring is empty");
        assert_stored(served);
    }
    let last_seq = match ring.last_seq() {
        Ok(Seq(last_seq)) => last_seq,
        Err(error) => return assert!(!is_sound, "{error:?}"),
    };
    if was_set_aside && !damage.floor {
        assert!(last_seq >= WHOLE.last_seq, "seqs go on from {}: {last_seq}", WHOLE.last_seq);
    }
    if last_seq > 1 << 40 {
        // The number in a changed row: no ring gets there.
        return;
    }
    let batch: Vec<_> = (1..=3).map(|number| record(last_seq + number)).collect();
    let stored = ring.store(&batch).and_then(|()| ring.checkpoint());
    let served = serve(&reader);
    if is_sound {
        stored.expect("a sound ring stores");
        let served = served.expect("a sound ring is read");
        let newest: Vec<_> = served.keys().rev().take(3).copied().collect();
        assert_eq!(newest, [last_seq + 3, last_seq + 2, last_seq + 1]);
    }
}

/// Everything that a reader gives, by its seq.
fn serve(reader: &Reader) -> Result<BTreeMap<u64, Value>, ReadError> {
    let (mut by_seq, mut ids) = (BTreeMap::new(), Vec::new());
    let facts = reader.facts()?;
    let total: u64 = facts.classes.iter().map(|class| class.entries).fold(0, u64::saturating_add);
    for offset in (0..total.min(1_000)).step_by(100) {
        let mut visited = 0;
        reader.search(&Filter::default(), 100, offset, |entry| {
            visited += 1;
            ids.push(entry.id);
            by_seq.insert(entry.seq.0, json(entry));
        })?;
        assert!(visited <= 100);
    }
    reader.search(&Filter::default(), 100, total / 2, |_| {})?;
    for id in ids.into_iter().step_by(17) {
        reader.entry(id, |entry| assert_eq!(entry.id, id))?;
    }
    reader.entry(EntryId::new(0, Class::Read, Seq(1 << 40), 0), |_| {})?;
    let filter = Filter { user: Some("nobody".to_owned()), ..Filter::default() };
    reader.search(&filter, 100, 0, |entry| assert_eq!(entry.user, "nobody"))?;
    let mut scan = reader.scan(&Filter::default(), Order::OldestFirst)?;
    // A ring of this size has fewer rows than that, whatever its numbers say.
    for _ in 0..1_000 {
        if scan.is_done() {
            return Ok(by_seq);
        }
        reader.scan_step(&mut scan, 64, |_| {})?;
    }
    panic!("the export has no end");
}

fn json(entry: &ServedEntry<'_>) -> Value {
    serde_json::to_value(entry).expect("an entry is JSON")
}

/// Each of these was stored as it is. A change whose outcome is lost with the end of the WAL counts on from what is left.
fn assert_stored(served: &BTreeMap<u64, Value>) {
    for (seq, entry) in served.iter().filter(|(_, entry)| entry["outcome"] != "interrupted") {
        assert_eq!(WHOLE.stored.get(seq), Some(entry), "never stored");
    }
}

/// The files of a ring, and what a reader gives of it.
struct Files {
    database: Vec<u8>,
    /// The database as it was some batches before.
    old_database: Vec<u8>,
    wal: Vec<u8>,
    floor: Vec<u8>,
    /// Bytes of the database up to the last page that holds anything.
    used: usize,
    /// All that was stored, what was evicted since included.
    stored: BTreeMap<u64, Value>,
    last_seq: u64,
}

impl Files {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let dir = folder.path();
        let read = |name| fs::read(dir.join(name)).expect("the ring has this file");
        let mut ring = Ring::open(&options(dir)).expect("a new ring can be made");
        store(&mut ring, 1..=120);
        drop(ring);
        let old_database = read(FILE_NAME);
        let mut ring = Ring::open(&options(dir)).expect("a sound ring opens");
        store(&mut ring, 121..=260);
        // What is evicted from now on is there again when the WAL is lost.
        let given = |ring: &Ring| serve(&Reader::new(dir, ring.gate())).expect("a sound ring is read");
        let mut stored = given(&ring);
        drop(ring);
        let mut ring = Ring::open(&options(dir)).expect("a sound ring opens");
        for first in [261, 271, 281] {
            store(&mut ring, first..=first + 9);
            stored.extend(given(&ring));
        }
        let intent = Record::Intent(IntentNumber(1), call(1_000));
        ring.store(&[intent, Record::Dropped(Class::Read, 3)]).expect("a sound ring stores");
        let (database, wal, floor) = (read(FILE_NAME), read(WAL_NAME), read(FLOOR_NAME));
        let used = database.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let used = used.next_multiple_of(PAGE_BYTES).min(database.len());
        Self { database, old_database, wal, floor, used, stored, last_seq: 290 }
    }

    /// These files with all damages of `input`: a byte for the kind, three for a place, three for another one, one for a length, and so
    /// many bytes.
    fn damaged(&self, mut input: &[u8]) -> (Self, Damage) {
        let Self { database, old_database, wal, floor, used, .. } = self;
        let (mut database, mut wal, mut floor) = (database.clone(), wal.clone(), floor.clone());
        while let [kind, a, b, c, d, e, f, length, rest @ ..] = input {
            let place = |[a, b, c]: [u8; 3]| usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let (here, there) = (place([*a, *b, *c]), place([*d, *e, *f]));
            let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
            let page = |place: usize| place % used / PAGE_BYTES * PAGE_BYTES;
            let of_page = |place: usize| page(place)..page(place) + PAGE_BYTES;
            match kind % 8 {
                0 => overwrite(&mut database, here % used, bytes),
                1 if !wal.is_empty() => {
                    let here = here % wal.len();
                    overwrite(&mut wal, here, bytes);
                }
                2 => database.truncate(here % (used + 1)),
                3 => wal.truncate(here % (self.wal.len() + 1)),
                4 if database.len() >= *used => database.copy_within(of_page(here), page(there)),
                5 if database.len() >= *used => database[of_page(here)].fill(0),
                6 if database.len() >= *used && old_database.len() >= *used => {
                    database[of_page(here)].copy_from_slice(&old_database[of_page(here)]);
                }
                7 => floor = bytes.to_vec(),
                _ => {}
            }
            input = rest;
        }
        let damage = Damage {
            database: database != self.database,
            wal: wal != self.wal,
            floor: floor != self.floor,
            header: database.get(..100) != self.database.get(..100) || wal != self.wal,
        };
        let Self { stored, last_seq, .. } = self;
        let (old_database, stored) = (Vec::new(), stored.clone());
        (Self { database, old_database, wal, floor, used: *used, stored, last_seq: *last_seq }, damage)
    }

    fn write(&self, dir: &Path) {
        for left in fs::read_dir(dir).expect("the folder is ours").flatten() {
            fs::remove_file(left.path()).expect("the folder is ours");
        }
        for (name, bytes) in [(FILE_NAME, &self.database), (WAL_NAME, &self.wal), (FLOOR_NAME, &self.floor)] {
            fs::write(dir.join(name), bytes).expect("there is room for a ring");
        }
    }
}

fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    let end = file.len().min(at + bytes.len());
    if at < end {
        file[at..end].copy_from_slice(&bytes[..end - at]);
    }
}

fn options(dir: &Path) -> RingOptions {
    RingOptions {
        state_dir: dir.to_owned(),
        max_entries: 200,
        max_bytes: 1 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: Uuid::from_u128(0x00c0_ffee),
        started_ms: 1_767_225_600_000,
    }
}

fn store(ring: &mut Ring, seqs: std::ops::RangeInclusive<u64>) {
    let batch: Vec<_> = seqs.map(record).collect();
    ring.store(&batch).expect("a sound ring stores");
}

fn record(seq: u64) -> Record {
    let class = Class::ALL[usize::try_from(seq * 7 % 5 % 3).expect("it is below 3")];
    let outcome = Outcome::ALL[usize::try_from(seq % 3).expect("it is below 3")];
    let entry = Entry {
        call: call(seq),
        class,
        outcome,
        response_code: 200,
        duration_us: seq * 1_000,
        calls: 1 + seq / 100,
        span_us: seq / 100,
    };
    Record::Entry(Seq(seq), entry, None)
}

fn call(number: u64) -> Call {
    let [.., high, low] = number.to_be_bytes();
    let length = usize::try_from(number * 37 % 400).expect("it is below 400");
    Call {
        arrival: Arrival { timestamp_ms: 1_767_225_600_000, monotonic_us: 77, clock_synced: true },
        method: "GET".into(),
        path: format!("/{number}/{}", "p".repeat(length)).into(),
        operation: nodeaudit::api::endpoints().get(usize::from(low % 8)).map(|endpoint| endpoint.operation),
        actor: Arc::new(Actor {
            user: format!("user-{number}"),
            roles: "admin\nread".to_owned(),
            token_id: (number % 2 == 0).then(|| format!("token-{number}")),
            auth_method: Some(AuthMethod::Bearer),
            ..Actor::default()
        }),
        source_ip: Ipv4Addr::new(192, 0, high, low).into(),
        trace_id: (number % 3 == 0).then_some([low; 16]),
        user_agent: Some("fuzz".to_owned()),
        forwarded_for: None,
    }
}
