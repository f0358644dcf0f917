//! Random histories of the ring against a plain model of it: what is put in comes out, and what is evicted is what the rule says.

mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nodeaudit::audit::ring::{FILE_NAME, IntentNumber, Record, Ring, RingOptions};
use nodeaudit::audit::{Class, Entry, Filter, Order, Outcome, Reader, Seq, ServedEntry};
use proptest::prelude::*;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use uuid::Uuid;

use model::{Draft, Held, Model, index};

/// What happens to a ring.
#[derive(Clone, Debug)]
enum Act {
    /// A batch of finished calls.
    Store(Vec<Draft>),
    /// A change begins, and nobody hears of its end.
    Begin(Draft),
    /// Calls of a class could not be recorded.
    Drop(Class, u64),
    /// The agent is started again, with so many entries allowed and these guarantees.
    Reopen { max_entries: u64, guarantee_percent: [u64; 3] },
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![2 => Just(Class::Change), 3 => Just(Class::Read), 3 => Just(Class::Denied)]
}

fn draft(class: impl Strategy<Value = Class>) -> impl Strategy<Value = Draft> {
    let address = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    let ended = (class, prop::sample::select(Outcome::ALL.as_slice()), 0_u16..600, 0_u64..1 << 40, any::<bool>());
    let when = (0_i64..1 << 44, prop::option::of(any::<[u8; 16]>()));
    let what = (prop::option::of(0_usize..8), 1_usize..1_024);
    let who =
        ("[a-zé\"\\\\@]{0,30}", prop::collection::vec("[a-z]{1,8}", 0..3), address, prop::option::of("[ -~]{0,80}"));
    // Half of the calls have this in common with others.
    let usual = (0_usize..4).prop_map(|number| {
        let who = (format!("user {number}"), vec!["admin".to_owned()], IpAddr::from([10, 0, 0, 1]), None);
        ((Some(number), 1), who)
    });
    // And some have the largest that there is.
    let largest = Just((
        (None, 1_023),
        ("u".repeat(256), vec!["r".repeat(64); 7], IpAddr::from([0xfe80; 8]), Some("a".repeat(256))),
    ));
    let common = prop_oneof![6 => usual, 5 => (what, who), 1 => largest];
    (ended, when, common).prop_map(|(ended, when, (what, who))| Draft {
        class: ended.0,
        outcome: ended.1,
        response_code: ended.2,
        duration_us: ended.3,
        timestamp_ms: when.0,
        operation: what.0,
        path_bytes: what.1,
        user: who.0,
        roles: who.1,
        source_ip: who.2.to_canonical(),
        trace_id: when.1,
        user_agent: who.3,
        intended: ended.4,
    })
}

fn limits() -> impl Strategy<Value = (u64, [u64; 3])> {
    let guarantees = (0_u64..=40, 0_u64..=30, 0_u64..=20);
    // Extents of one entry, and of some.
    (prop_oneof![100_u64..=255, 256_u64..=900], guarantees.prop_map(|(change, read, denied)| [change, read, denied]))
}

fn act() -> impl Strategy<Value = Act> {
    let mixed = prop::collection::vec(draft(class()), 1..60);
    // What washes a ring out: many of one class.
    let flood = class().prop_flat_map(|class| prop::collection::vec(draft(Just(class)), 100..250));
    prop_oneof![
        5 => mixed.prop_map(Act::Store),
        3 => flood.prop_map(Act::Store),
        1 => draft(Just(Class::Change)).prop_map(Act::Begin),
        1 => (class(), 1_u64..9).prop_map(|(class, calls)| Act::Drop(class, calls)),
        2 => limits().prop_map(|(max_entries, guarantee_percent)| Act::Reopen { max_entries, guarantee_percent }),
    ]
}

/// A ring, its reader and its model, side by side.
struct Pair {
    options: RingOptions,
    ring: Option<Ring>,
    reader: Reader,
    model: Model,
    last_intent: u64,
}

impl Pair {
    fn new(options: RingOptions) -> Self {
        let ring = Ring::open(&options).unwrap();
        let reader = Reader::new(&options.state_dir, ring.gate());
        let model = Model::new(&options);
        Self { options, ring: Some(ring), reader, model, last_intent: 0 }
    }

    fn run(&mut self, act: &Act) {
        let ring = self.ring.as_mut().unwrap();
        let run_tag = ring.run_tag();
        match act {
            Act::Store(drafts) => {
                let mut batch = Vec::new();
                for draft in drafts {
                    let intent = draft.intended.then(|| {
                        self.last_intent += 1;
                        IntentNumber(self.last_intent)
                    });
                    batch.extend(intent.map(|number| Record::Intent(number, draft.call())));
                    self.model.insert(draft, draft.outcome, run_tag, &self.options);
                    let Draft { class, outcome, response_code, duration_us, .. } = *draft;
                    let (calls, span_us) = draft.several();
                    let call = draft.call();
                    let entry = Entry { call, class, outcome, response_code, duration_us, calls, span_us };
                    batch.push(Record::Entry(Seq(self.model.last_seq), entry, intent));
                }
                ring.store(&batch).unwrap();
                // As after an error of which nobody knows whether the batch was stored: once is enough.
                ring.store(&batch).unwrap();
                ring.checkpoint().unwrap();
            }
            Act::Begin(draft) => {
                self.last_intent += 1;
                ring.store(&[Record::Intent(IntentNumber(self.last_intent), draft.call())]).unwrap();
                self.model.begun.push((draft.clone(), run_tag));
            }
            Act::Drop(class, calls) => {
                ring.store(&[Record::Dropped(*class, *calls)]).unwrap();
                self.model.classes[class.index()].dropped += calls;
            }
            Act::Reopen { max_entries, guarantee_percent } => {
                self.ring = None;
                (self.options.max_entries, self.options.guarantee_percent) = (*max_entries, *guarantee_percent);
                let ring = Ring::open(&self.options).unwrap();
                self.reader = Reader::new(&self.options.state_dir, ring.gate());
                self.ring = Some(ring);
                self.last_intent = 0;
                self.model.reopen(&self.options);
            }
        }
    }

    fn compare(&mut self, (limit, offset, step): (u64, u64, u64)) {
        let all = self.model.all();
        assert_eq!(self.ring.as_mut().unwrap().last_seq().unwrap(), Seq(self.model.last_seq));
        assert!(all.len() as u64 <= self.options.max_entries);

        let page = |limit, offset| {
            let mut page = Vec::new();
            let visit = |entry: &ServedEntry<'_>| page.push(serde_json::to_value(entry).unwrap());
            let search = self.reader.search(&Filter::default(), limit, offset, visit).unwrap();
            assert!(search.is_done());
            assert_eq!(search.total, all.len() as u64);
            page
        };
        let expected = |limit: u64, offset: u64| -> Vec<&Value> {
            all.iter().rev().skip(index(offset)).take(index(limit)).map(|held| &held.json).collect()
        };
        let whole = page(1_000, 0);
        assert!(whole.iter().eq(expected(1_000, 0)), "all entries, newest first");
        assert!(page(limit, offset).iter().eq(expected(limit, offset)), "page of {limit} at {offset}");

        self.compare_newest(1 + limit % 50, offset % 60, &all);

        let mut scan = self.reader.scan(&Filter::default(), Order::OldestFirst).unwrap();
        let mut exported = Vec::new();
        while !scan.is_done() {
            let before = exported.len();
            let visit = |entry: &ServedEntry<'_>| exported.push(entry.seq.0);
            let done = self.reader.scan_step(&mut scan, step, visit).unwrap();
            assert_eq!((done.entries, done.evicted), ((exported.len() - before) as u64, [0; 3]));
            assert!(done.entries == step || scan.is_done());
        }
        assert!(exported.into_iter().eq(all.iter().map(|held| held.seq)), "an export is oldest first");

        let found = |id| {
            let mut found = None;
            let is_there = self.reader.entry(id, |entry| found = Some(serde_json::to_value(entry).unwrap())).unwrap();
            assert_eq!(is_there, found.is_some());
            found
        };
        for held in all.iter().step_by(1 + index(offset) % 37) {
            assert_eq!(found(held.id).as_ref(), Some(&held.json), "by its ID");
        }
        for &id in self.model.gone.iter().rev().step_by(1 + index(offset) % 37).take(40) {
            assert_eq!(found(id), None, "evicted");
        }

        let facts = self.reader.facts().unwrap();
        let seqs: BTreeMap<Class, Vec<u64>> = Class::ALL
            .map(|class| (class, self.model.classes[class.index()].extents.iter().flatten().map(|h| h.seq).collect()))
            .into();
        for facts in facts.classes {
            let (model, seqs) = (&self.model.classes[facts.class.index()], &seqs[&facts.class]);
            assert_eq!((facts.entries, facts.evicted), (model.entries(), model.evicted), "{:?}", facts.class);
            assert_eq!((facts.dropped, facts.interrupted), (model.dropped, model.interrupted), "{:?}", facts.class);
            assert_eq!(facts.oldest.map(|oldest| oldest.seq.0), seqs.first().copied());
            assert_eq!(facts.newest.map(|seq| seq.0), seqs.last().copied());
        }
    }

    /// What entries have in common is there as long as they are.
    fn assert_named(&self) {
        let path = self.options.state_dir.join(FILE_NAME);
        let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        for class in Class::ALL.map(Class::as_str) {
            let nothing =
                format!("SELECT count(*) FROM {class} WHERE common NOT IN (SELECT number FROM {class}_common)");
            assert_eq!(
                file.query_row(&nothing, [], |row| row.get(0)),
                Ok(0),
                "entries of class {class} that name nothing"
            );
            let left = format!("SELECT count(*) FROM {class}_common WHERE NOT EXISTS (SELECT 1 FROM {class})");
            assert_eq!(
                file.query_row(&left, [], |row| row.get(0)),
                Ok(0),
                "what no entry of class {class} names any more"
            );
        }
    }

    /// A page from memory, where there is one, is the page from the file, in all that is told with it.
    fn compare_newest(&self, limit: u64, offset: u64, all: &[&Held]) {
        let mut newest = Vec::new();
        let from_memory = self.reader.newest(limit, offset, |entry| newest.push(serde_json::to_value(entry).unwrap()));
        let from_file = self.reader.search(&Filter::default(), limit, offset, |_| {}).unwrap();
        if let Some(from_memory) = from_memory {
            let expected = all.iter().rev().skip(index(offset)).take(index(limit)).map(|held| &held.json);
            assert!(newest.iter().eq(expected), "page of {limit} at {offset} from memory");
            assert_eq!(format!("{from_memory:?}"), format!("{from_file:?}"));
        }
    }

    /// A class never loses what is guaranteed to it to another one.
    fn assert_guaranteed(&self, before: [u64; 3], act: &Act) {
        let Act::Store(drafts) = act else { return };
        for class in Class::ALL.map(Class::index) {
            let stored = drafts.iter().filter(|draft| draft.class.index() == class).count() as u64;
            let guarantee = self.options.max_entries * self.options.guarantee_percent[class] / 100;
            let (before, now) = (before[class], self.model.classes[class].entries());
            assert!(now >= (before + stored).min(guarantee), "{now} of {before} + {stored}, guaranteed {guarantee}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_holds_what_a_plain_list_with_its_eviction_rule_holds(
        (max_entries, guarantee_percent) in limits(),
        acts in prop::collection::vec((act(), (1_u64..=100, 0_u64..600, 1_u64..200)), 1..14),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(RingOptions {
            state_dir: folder.path().to_owned(),
            max_entries,
            // Room for all of them, however long: here entries are the limit. Bytes are in the unit tests of `retention`.
            max_bytes: 8 << 20,
            guarantee_percent,
            boot_id: Uuid::from_u128(0x00c0_ffee),
            started_ms: 1_000,
        });
        for (act, look) in &acts {
            let before = [0, 1, 2].map(|class: usize| pair.model.classes[class].entries());
            pair.run(act);
            pair.compare(*look);
            pair.assert_named();
            pair.assert_guaranteed(before, act);
        }
    }
}
