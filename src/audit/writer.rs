//! The one thread that writes the ring, and the queue before it.
//!
//! Callers reserve a place, hand in intents and entries, and wait only where durability is strict. The thread takes all that is
//! queued, stores it in one transaction (group commit), then wakes everyone who waited. What can't be stored now is kept and tried
//! again; places run out before memory does. Knows neither SQLite nor HTTP.

mod company;
mod due;
mod flood;
mod queue;
mod stored;
mod sync;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::class::{Class, Durability};
use super::entry::{Call, Entry, EntryId, Seq};
use super::metrics::{Counts, Metrics};
use super::ring::{IntentNumber, Ring, RingError};
use queue::Queue;
use stored::Stored;
pub use thread::WriterThread;

/// The longest that a call waits for a place or for its commit. A slow SD card stalls for half a second now and then.
pub(super) const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// How long open calls are waited for before the entries of those that have ended meanwhile are stored, whatever their window.
const FLUSH_PAUSE: Duration = Duration::from_millis(50);

/// Why a call can't be recorded now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No place became free, or no commit returned, within two seconds.
    #[error("the audit store did not answer within {} s", STORE_DEADLINE.as_secs())]
    TimedOut,
    /// The last attempt to store failed.
    #[error("the audit store can't write: {0}")]
    Failing(String),
    /// What was handed in is not stored and will not be.
    #[error("the audit store did not take the record")]
    NotTaken,
    /// The writer has ended.
    #[error("the audit store is closed")]
    Closed,
}

/// The durability of each class, and the window of a relaxed one.
#[derive(Clone, Copy, Debug)]
pub struct Durabilities(pub [(Durability, Duration); 3]);

/// What the writer keeps to.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// The durability of each class.
    pub durabilities: Durabilities,
    /// `audit.max_pending`: how many calls may be between arrival and stable storage.
    pub max_pending: usize,
    /// `audit.denied_entries`: how many refused calls have entries of their own in a batch.
    pub denied_entries: usize,
}

/// A place in the queue: from a call's arrival until its entry is on stable storage.
#[derive(Debug)]
pub struct Place {
    entry: OwnedSemaphorePermit,
    /// A change's place among the open intents, which the ring file has to hold.
    intent: Option<OwnedSemaphorePermit>,
}

/// Frees places all at once: each by itself would take the lock of those who wait for one.
fn free(places: Vec<Place>) {
    let all = places.into_iter().reduce(|mut all, place| {
        all.entry.merge(place.entry);
        match (&mut all.intent, place.intent) {
            (Some(intents), Some(intent)) => intents.merge(intent),
            (intents, Some(intent)) => *intents = Some(intent),
            (_, None) => {}
        }
        all
    });
    drop(all);
}

/// When a call that waits for the store gives up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of something that begins to wait now.
    pub fn from_now() -> Self {
        Self(Instant::now() + STORE_DEADLINE)
    }

    async fn bound<T>(self, waiting: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        tokio::time::timeout_at(self.0, waiting).await.unwrap_or(Err(StoreError::TimedOut))
    }
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
    pub async fn wait(self, deadline: Deadline) -> Result<(), StoreError> {
        deadline.bound(async { self.0.await.map_err(|_| StoreError::NotTaken) }).await
    }
}

/// The writing side of the audit ring. Clones share one thread.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    /// How many places there are.
    max_pending: u32,
    intents: Arc<Semaphore>,
    durabilities: Durabilities,
    run_tag: u32,
    metrics: Arc<Metrics>,
    /// The seq of the newest entry that is no reading of the log, stored or not.
    news: Arc<AtomicU64>,
    stored: Stored,
}

impl Writer {
    /// Starts the thread that owns `ring`.
    pub fn start(mut ring: Ring, options: WriterOptions) -> Result<(Self, WriterThread), RingError> {
        let WriterOptions { durabilities, max_pending, denied_entries } = options;
        let last_seq = ring.last_seq()?;
        let queue = Arc::new(Queue::new(last_seq, ring.batch_bytes(), denied_entries));
        let stored = Stored::up_to(last_seq);
        let metrics = Arc::<Metrics>::default();
        let news = Arc::new(AtomicU64::new(last_seq.0));
        let run_tag = ring.run_tag();
        let intents = Arc::new(Semaphore::new(ring.open_intents_max()));
        let thread = WriterThread::start(ring, Arc::clone(&queue), Arc::clone(&metrics), stored.clone())?;
        let places = Arc::new(Semaphore::new(max_pending));
        let max_pending = u32::try_from(max_pending).unwrap_or(u32::MAX);
        let writer = Self { queue, places, max_pending, intents, durabilities, run_tag, metrics, news, stored };
        Ok((writer, thread))
    }

    /// A place for a call of that class that has arrived. Waits while the store is slow.
    pub async fn place(&self, class: Class, deadline: Deadline) -> Result<Place, StoreError> {
        let acquired = deadline.bound(async {
            let entry = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
            let intent = match class {
                Class::Change => Some(Arc::clone(&self.intents).acquire_owned().await.map_err(|_| StoreError::Closed)?),
                Class::Read | Class::Denied => None,
            };
            Ok(Place { entry, intent })
        });
        acquired.await.map_err(|error| self.health().err().unwrap_or(error))
    }

    /// A place for a call that changes nothing, where it need not wait for one. None: there is none free.
    pub fn try_place(&self) -> Option<Place> {
        let entry = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { entry, intent: None })
    }

    /// Hands in that a change is about to happen. It must not happen before the commit.
    pub fn intend(&self, call: Call) -> (IntentNumber, Commit) {
        let (number, commit) = self.queue.push_intent(call);
        (number, Commit(commit))
    }

    /// Hands in the entry of a finished call. Never waits, so that it can be done while a future is dropped.
    pub fn record(&self, entry: Entry, intent: Option<IntentNumber>, place: Place) -> Recorded {
        let (durability, window) = self.durability(entry.class);
        self.metrics.call(entry.class, &entry);
        let (class, is_news) = (entry.class, !entry.is_reading_of_log());
        let (given, commit) = match durability {
            Durability::Strict => {
                let (given, commit) = self.queue.push_strict(entry, intent, place);
                (given, Some(Commit(commit)))
            }
            Durability::Relaxed => (self.queue.push_relaxed(entry, intent, place, window), None),
        };
        if is_news {
            self.news.fetch_max(given.seq.0, Ordering::Relaxed);
        }
        Recorded { id: EntryId::new(given.timestamp_ms, class, given.seq, self.run_tag), commit }
    }

    /// Counts a call that leaves no entry, because none can be stored.
    pub fn drop_call(&self, class: Class) {
        self.queue.count_dropped(class, 1);
    }

    /// Calls of each class that left no entry and are not counted in the ring file yet.
    pub fn dropped(&self) -> [u64; 3] {
        self.queue.dropped()
    }

    /// Returns when everything handed in so far is on stable storage, and so visible to readers.
    pub async fn flush(&self) -> Result<(), StoreError> {
        match self.queue.push_flush() {
            Some(commit) => Commit(commit).wait(Deadline::from_now()).await,
            None => Ok(()),
        }
    }

    /// The tag of the run in the IDs of its entries.
    pub const fn run_tag(&self) -> u32 {
        self.run_tag
    }

    /// What was counted since the start.
    pub fn metrics(&self) -> Counts {
        self.metrics.counts()
    }

    /// The newest entry that is no reading of the log, stored or not.
    pub fn news(&self) -> Seq {
        Seq(self.news.load(Ordering::Relaxed))
    }

    /// The newest such entry that is on stable storage, each time that there is one; none when waiting has to end.
    pub fn stored_news(&self) -> watch::Receiver<Option<Seq>> {
        self.stored.news.subscribe()
    }

    /// The newest entry that is on stable storage, each time that there is one; none when waiting has to end.
    pub fn stored(&self) -> watch::Receiver<Option<Seq>> {
        self.stored.any.subscribe()
    }

    /// Returns when every open call has its entry, and all of them are on stable storage: to be called when no further one comes. Gives
    /// the number of those that had none in time, or whose entries can't be stored.
    pub async fn await_open_calls(&self) -> usize {
        let deadline = Deadline::from_now();
        while self.flush().await.is_ok() {
            // Each gives its place back when it is stored.
            let all = tokio::time::timeout(FLUSH_PAUSE, self.places.acquire_many(self.max_pending));
            if all.await.is_ok() || deadline.0 <= Instant::now() {
                break;
            }
        }
        (self.max_pending as usize).saturating_sub(self.places.available_permits())
    }

    /// Has everyone who waits for entries go on: the agent stops.
    pub fn end_waiting(&self) {
        self.stored.any.send_replace(None);
        self.stored.news.send_replace(None);
    }

    /// Has the writer look after the ring: a reader could not read it.
    pub fn look_after_ring(&self) {
        self.queue.look();
    }

    /// How many records are handed in but not on stable storage yet.
    pub fn pending(&self) -> u64 {
        self.queue.pending()
    }

    /// Whether the last attempt to store succeeded.
    pub fn health(&self) -> Result<(), StoreError> {
        self.queue.health()
    }

    /// How long the writer has been at one write, sync or checkpoint; none where it is at none.
    pub fn busy_for(&self) -> Option<Duration> {
        self.queue.busy_for()
    }

    /// The durability and window of a class.
    pub const fn durability(&self, class: Class) -> (Durability, Duration) {
        self.durabilities.0[class.index()]
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::audit::ring::RingOptions;

    #[test]
    fn whoever_stops_waits_for_open_calls_until_their_entries_are_stored() {
        let folder = tempfile::tempdir().unwrap();
        let ring = Ring::open(&RingOptions::plain(folder.path(), 1_000)).unwrap();
        // Nothing is stored for the sake of the window while the test runs.
        let durabilities = Durabilities([(Durability::Relaxed, Duration::from_hours(1)); 3]);
        let options = WriterOptions { durabilities, max_pending: 4, denied_entries: 4 };
        let (writer, thread) = Writer::start(ring, options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ended, open) = (writer.try_place().unwrap(), writer.try_place().unwrap());
        writer.record(Entry::plain(Class::Read), None, ended);
        runtime.block_on(async {
            let mut waiting = pin!(writer.await_open_calls());
            assert!(waiting.as_mut().now_or_never().is_none(), "one call is open");
            writer.record(Entry::plain(Class::Read), None, open);
            assert_eq!(waiting.await, 0);
            assert_eq!(writer.pending(), 0, "both are stored");
            let _never_given_up = writer.try_place().unwrap();
            assert_eq!(writer.await_open_calls().await, 1, "it is told when the time is over");
        });
        thread.stop().unwrap();
    }
}
