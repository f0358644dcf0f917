//! What stands for the ring: records that are on stable storage, and the thread that puts them there.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nodeaudit::audit::ring::Record;
use nodeaudit::audit::{Arrival, Call, Class, Entry, Outcome, Seq};
use nodeaudit::auth::Actor;

use super::Place;
use super::queue::{Answer, Batch, Queue};

/// A queue, what was stored of it, and its places. Clones share them.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) queue: Arc<Queue>,
    stored: Arc<Mutex<Stored>>,
    places: Arc<AtomicUsize>,
}

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) seqs: BTreeSet<u64>,
    /// The calls that the entries stand for.
    pub(super) calls: u64,
    pub(super) intents: BTreeSet<u64>,
    pub(super) dropped: [u64; 3],
}

impl Store {
    /// An empty one, where so many entries are a batch and the second refused call joins the first.
    pub(super) fn new(batch_entries: usize) -> Self {
        let batch_bytes = batch_entries * Record::Entry(Seq(1), entry(), None).bytes();
        let queue = Arc::new(Queue::new(Seq(0), batch_bytes, 2));
        Self { queue, stored: Arc::default(), places: Arc::default() }
    }

    pub(super) fn place(&self) -> Place {
        Place::take(&self.places)
    }

    pub(super) fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    pub(super) fn stored(&self) -> Stored {
        self.stored.lock().unwrap().clone()
    }

    pub(super) fn has(&self, seq: Seq) -> bool {
        self.stored().seqs.contains(&seq.0)
    }

    /// What the writer's thread does, until the queue is closed and empty.
    pub(super) fn write(&self) {
        while let Some(batch) = self.queue.next_batch() {
            self.keep(&batch);
            self.queue.settle(batch, Answer::Stored);
        }
    }

    /// The same, until so many entries are stored.
    pub(super) fn write_entries(&self, entries: usize) {
        while self.stored().seqs.len() < entries {
            let batch = self.queue.next_batch().expect("nobody closes it");
            self.keep(&batch);
            self.queue.settle(batch, Answer::Stored);
        }
    }

    /// The batch is on stable storage when this returns.
    pub(super) fn keep(&self, batch: &Batch) {
        // In the middle of storing, everyone else can go on.
        loom::thread::yield_now();
        let mut stored = self.stored.lock().unwrap();
        for record in &batch.records {
            let is_new = match record {
                Record::Entry(seq, entry, _) => {
                    stored.calls += entry.calls;
                    stored.seqs.insert(seq.0)
                }
                Record::Intent(number, _) => stored.intents.insert(number.0),
                Record::Dropped(class, calls) => {
                    stored.dropped[class.index()] += calls;
                    *calls > 0
                }
            };
            assert!(is_new, "stored twice: {record:?}");
        }
        let last = stored.seqs.last().copied().unwrap_or(0);
        assert_eq!(stored.seqs.len() as u64, last, "stored in the order of their seqs, none left out");
    }
}

pub(super) fn entry() -> Entry {
    Entry {
        call: call(),
        class: Class::Read,
        outcome: Outcome::Completed,
        response_code: 200,
        duration_us: 1,
        calls: 1,
        span_us: 0,
    }
}

pub(super) fn refused() -> Entry {
    Entry { class: Class::Denied, response_code: 401, ..entry() }
}

pub(super) fn call() -> Call {
    Call {
        arrival: Arrival { timestamp_ms: 1, monotonic_us: 1, clock_synced: true },
        method: "GET".into(),
        path: "/".into(),
        operation: None,
        actor: Arc::new(Actor::default()),
        source_ip: Ipv4Addr::LOCALHOST.into(),
        trace_id: None,
        user_agent: None,
        forwarded_for: None,
    }
}
