//! The one thread that writes the ring, and the queue before it.
//!
//! Callers reserve a place, hand in intents and entries, and wait only where durability is strict. The thread takes all that is
//! queued, stores it in one transaction (group commit), then wakes everyone who waited. What can't be stored now is kept and tried
//! again; places run out before memory does. Knows neither SQLite nor HTTP.

mod queue;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::class::{Class, Durability};
use super::entry::{Call, Entry, EntryId};
use super::ring::{IntentNumber, Record, Ring, RingError};
use crate::report;
use queue::Queue;

/// How many calls may be between arrival and stable storage.
const PLACES: usize = 4096;

/// The longest that a call waits for a place or for its commit. A slow SD card stalls for half a second now and then.
pub(super) const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// The pause before a batch that could not be stored is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Why a call can't be recorded now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No place became free, or no commit returned, within two seconds.
    #[error("the audit store did not answer within {} s", STORE_DEADLINE.as_secs())]
    TimedOut,
    /// The last attempt to store failed.
    #[error("the audit store can't write: {0}")]
    Failing(String),
    /// The writer has ended.
    #[error("the audit store is closed")]
    Closed,
}

/// The durability of each class, and the window of a relaxed one.
#[derive(Clone, Copy, Debug)]
pub struct Durabilities(pub [(Durability, Duration); 3]);

/// A place in the queue: from a call's arrival until its entry is on stable storage.
#[derive(Debug)]
pub struct Place {
    permit: OwnedSemaphorePermit,
}

/// What came of handing in an entry.
#[derive(Debug)]
pub struct Recorded {
    /// The entry's ID.
    pub id: EntryId,
    /// Present where the caller may be answered only after the commit.
    pub commit: Option<Commit>,
}

/// A commit that someone waits for.
#[derive(Debug)]
pub struct Commit(oneshot::Receiver<()>);

impl Commit {
    /// Returns when what was handed in is on stable storage.
    pub async fn wait(self) -> Result<(), StoreError> {
        match tokio::time::timeout(STORE_DEADLINE, self.0).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::TimedOut),
        }
    }
}

/// The writing side of the audit ring. Clones share one thread.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    durabilities: Durabilities,
    run_tag: u32,
}

/// The writer's thread; joined by [`WriterThread::stop`].
#[derive(Debug)]
pub struct WriterThread {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread that owns `ring`.
    pub fn start(mut ring: Ring, durabilities: Durabilities) -> Result<(Self, WriterThread), RingError> {
        let queue = Arc::new(Queue::new(ring.last_seq()?, ring.batch_bytes()));
        let run_tag = ring.run_tag();
        let thread_queue = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || run(&mut ring, &thread_queue))
            .map_err(|source| RingError::Thread { source })?;
        let places = Arc::new(Semaphore::new(PLACES));
        let writer = Self { queue: Arc::clone(&queue), places, durabilities, run_tag };
        Ok((writer, WriterThread { queue, thread: Some(thread) }))
    }

    /// A place for a call that has arrived. Waits while the store is slow.
    pub async fn reserve(&self) -> Result<Place, StoreError> {
        if let Some(place) = self.try_reserve() {
            return Ok(place);
        }
        match tokio::time::timeout(STORE_DEADLINE, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place { permit }),
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(self.health().err().unwrap_or(StoreError::TimedOut)),
        }
    }

    /// A place for a call that can't wait for one. None: there is none free.
    pub fn try_reserve(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Place { permit })
    }

    /// Hands in that a change is about to happen. It must not happen before the commit.
    pub fn intend(&self, call: Call) -> (IntentNumber, Commit) {
        let (number, commit) = self.queue.push_intent(call);
        (number, Commit(commit))
    }

    /// Hands in the entry of a finished call. Never waits, so that it can be done while a future is dropped.
    pub fn record(&self, entry: Entry, intent: Option<IntentNumber>, place: Place) -> Recorded {
        let (durability, window) = self.durability(entry.class);
        let (class, timestamp_ms) = (entry.class, entry.call.arrival.timestamp_ms);
        let (seq, commit) = match durability {
            Durability::Strict => {
                let (seq, commit) = self.queue.push_strict(entry, intent, place.permit);
                (seq, Some(Commit(commit)))
            }
            Durability::Relaxed => (self.queue.push_relaxed(entry, intent, place.permit, window), None),
        };
        Recorded { id: EntryId::new(timestamp_ms, class, seq, self.run_tag), commit }
    }

    /// Counts a call that leaves no entry, because none can be stored.
    pub fn drop_call(&self, class: Class) {
        self.queue.count_dropped(class);
    }

    /// Calls of each class that left no entry and are not counted in the ring file yet.
    pub fn dropped(&self) -> [u64; 3] {
        self.queue.dropped()
    }

    /// Returns when everything handed in so far is on stable storage, and so visible to readers.
    pub async fn flush(&self) -> Result<(), StoreError> {
        match self.queue.push_flush() {
            Some(commit) => Commit(commit).wait().await,
            None => Ok(()),
        }
    }

    /// How many records are handed in but not on stable storage yet.
    pub fn pending(&self) -> u64 {
        self.queue.pending()
    }

    /// Whether the last attempt to store succeeded.
    pub fn health(&self) -> Result<(), StoreError> {
        self.queue.health()
    }

    /// The durability and window of a class.
    pub const fn durability(&self, class: Class) -> (Durability, Duration) {
        self.durabilities.0[class.index()]
    }
}

impl WriterThread {
    /// Stores what is queued and ends the thread.
    pub fn stop(mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the audit writer panicked");
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Takes batches from the queue and stores them until the queue is closed and empty.
fn run(ring: &mut Ring, queue: &Queue) {
    while let Some(batch) = queue.next_batch() {
        if !store(ring, queue, &batch.records) {
            return;
        }
        queue.settle(batch);
        if let Err(error) = ring.checkpoint() {
            log::warn!("{}", report::chain(&error));
        }
    }
}

/// Stores a batch, again and again until it succeeds. False: the queue was closed while the store was failing.
fn store(ring: &mut Ring, queue: &Queue, records: &[Record]) -> bool {
    loop {
        let Err(error) = ring.store(records) else {
            queue.report(None);
            return true;
        };
        queue.report(Some(report::chain(&error)));
        if queue.pause(RETRY_PAUSE) {
            log::error!("stopped with {} records that could not be stored", records.len());
            return false;
        }
    }
}
