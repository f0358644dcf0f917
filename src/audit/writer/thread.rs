//! The one thread that writes: it takes batches from the queue and stores them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::queue::{Answer, Queue};
use super::stored::Stored;
use crate::audit::metrics::Metrics;
use crate::audit::ring::{Record, Ring, RingError};
use crate::report;

/// How long a stopping agent goes on trying to store what is queued.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// The pause before a batch that could not be stored is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The writer's thread; joined by [`WriterThread::stop`].
#[derive(Debug)]
pub struct WriterThread {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl WriterThread {
    /// Starts it on `ring`.
    pub(super) fn start(
        mut ring: Ring,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
        stored: Stored,
    ) -> Result<Self, RingError> {
        let thread_queue = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| run(&mut ring, &thread_queue, &metrics, &stored)));
                if ended.is_err() {
                    thread_queue.fail("the audit writer panicked; the agent has to be started again");
                }
            })
            .map_err(|source| RingError::Thread { source })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Stores what is queued and ends the thread. An error: so many records could not be stored.
    pub fn stop(mut self) -> Result<(), u64> {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught and reported within.
            let _ = thread.join();
        }
        match self.queue.pending() {
            0 => Ok(()),
            unsaved => Err(unsaved),
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Takes batches from the queue and stores them until the queue is closed and empty.
fn run(ring: &mut Ring, queue: &Queue, metrics: &Metrics, stored: &Stored) {
    let gate = ring.gate();
    let mut told_generation = gate.generation();
    while let Some(batch) = queue.next_batch() {
        let mut entries = [0; 3];
        for entry in batch.records.iter().filter_map(Record::entry) {
            entries[entry.class.index()] += 1;
        }
        let newest = batch.records.iter().filter_map(Record::seq).max();
        let news = batch.records.iter().filter_map(Record::news).max();
        let begun = Instant::now();
        let answer = match store(ring, queue, &batch.records) {
            Outcome::All => Answer::Stored,
            Outcome::InPart => Answer::NotTaken,
            Outcome::Stopped => return,
        };
        // Before anyone who waited goes on: he may ask for it.
        metrics.commit(begun.elapsed(), entries);
        queue.settle(batch, answer);
        if newest.is_some() {
            // That the ring is another one is news, whatever comes first in it.
            let generation = gate.generation();
            stored.tell(newest, if generation == told_generation { news } else { newest });
            told_generation = generation;
        }
        if let Err(error) = ring.checkpoint() {
            log::warn!("{}", report::chain(&error));
        }
    }
}

/// What came of storing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All of them are on stable storage.
    All,
    /// Those that SQLite takes; the others are lost, and counted.
    InPart,
    /// The queue was closed, and the store failed for too long after that.
    Stopped,
}

/// Stores records, again and again until it succeeds.
fn store(ring: &mut Ring, queue: &Queue, records: &[Record]) -> Outcome {
    loop {
        let Err(error) = ring.store(records) else {
            queue.report(None);
            return Outcome::All;
        };
        if error.is_about_the_data() {
            // One bad record must not keep the others from being stored, nor stop the store for good.
            return match records {
                [record] => {
                    log::error!("a record can't be stored and is given up: {}", report::chain(&error));
                    give_up(queue, record);
                    Outcome::InPart
                }
                several => store_alone(ring, queue, several),
            };
        }
        queue.report(Some(report::chain(&error)));
        if queue.pause(RETRY_PAUSE).is_some_and(|since_closed| since_closed > STOP_DEADLINE) {
            return Outcome::Stopped;
        }
    }
}

/// Stores records of which some can't be stored, each in a transaction of its own.
fn store_alone(ring: &mut Ring, queue: &Queue, records: &[Record]) -> Outcome {
    for record in records.chunks(1) {
        if store(ring, queue, record) == Outcome::Stopped {
            return Outcome::Stopped;
        }
    }
    Outcome::InPart
}

/// Counts an entry that is lost. One with an intent is not counted: the next start tells of it as interrupted.
fn give_up(queue: &Queue, record: &Record) {
    if let Record::Entry(_, entry, None) = record {
        queue.count_dropped(entry.class, entry.calls);
    }
}
