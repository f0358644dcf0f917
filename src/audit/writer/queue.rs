//! What waits for the writer's thread.
//!
//! Gives each entry its seq in the order in which it is queued, decides when the thread has to wake up, and remembers whether the
//! last attempt to store succeeded.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::company::{Company, LINGER};
use super::due::Due;
use super::flood::{Fate, Flood, join};
use super::sync::{Condvar, Instant, Mutex, MutexGuard, PoisonError};
use super::{Place, STORE_DEADLINE, StoreError, free};
use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry, Seq};
use crate::audit::ring::{IntentNumber, Record};

/// A count of dropped calls is stored after this time at the latest, with whatever else is queued.
const DROPPED_WINDOW: Duration = Duration::from_secs(1);

/// So many queued records are stored before their window has passed: more in one batch saves hardly any flash.
const BATCH_RECORDS: usize = 2048;

/// The queue before the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    batch_bytes: usize,
}

/// What those are told who wait for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is on stable storage.
    Stored,
    /// Part of it is lost. Which part is not told: none of them is answered as if it were stored.
    NotTaken,
}

/// Records to store in one transaction.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// Free again when the batch is settled.
    places: Vec<Place>,
    /// The calls that the batch counts as dropped.
    dropped: [u64; 3],
    /// How many of the records were queued; the others are counts of dropped calls.
    queued: u64,
}

/// What names the entry of a call: that of its own, or of those that it is counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) seq: Seq,
    pub(super) timestamp_ms: i64,
}

#[derive(Debug)]
struct State {
    records: Vec<Record>,
    /// The sizes of `records` together, roughly.
    bytes: usize,
    /// Which of `records` further refused calls can join.
    flood: Flood,
    places: Vec<Place>,
    due: Due,
    /// Whether someone waits for them.
    is_awaited: bool,
    /// For how many they wait.
    company: Company,
    /// Whether the thread waits for those.
    lingers: bool,
    /// Records queued since the start, and how many of them are on stable storage.
    queued: u64,
    settled: u64,
    /// Who waits until so many records are settled; in rising order.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    last_seq: Seq,
    last_intent: IntentNumber,
    /// Calls that left no entry and are not counted in the ring yet.
    dropped: [u64; 3],
    /// Whether the thread has to look after the ring, although nothing is queued.
    looks: bool,
    /// Since when the thread has been at one attempt to store, or at what it does after it.
    busy_since: Option<Instant>,
    /// Why the last attempt to store failed.
    failure: Option<String>,
    /// Since when nothing more is expected.
    closed: Option<Instant>,
}

impl Queue {
    /// An empty queue; the next entry gets the seq after `last_seq`. So many refused calls have entries of their own in a batch.
    pub(super) fn new(last_seq: Seq, batch_bytes: usize, denied_entries: usize) -> Self {
        let state = State {
            records: Vec::new(),
            bytes: 0,
            flood: Flood::new(denied_entries),
            places: Vec::new(),
            due: Due::default(),
            is_awaited: false,
            company: Company::default(),
            lingers: false,
            queued: 0,
            settled: 0,
            waiting: VecDeque::new(),
            last_seq,
            last_intent: IntentNumber(0),
            dropped: [0; 3],
            looks: false,
            busy_since: None,
            failure: None,
            closed: None,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), batch_bytes }
    }

    /// Queues an intent, to be stored at once.
    pub(super) fn push_intent(&self, call: Call) -> (IntentNumber, oneshot::Receiver<()>) {
        let mut state = self.lock();
        state.last_intent.0 += 1;
        let number = state.last_intent;
        state.push(Record::Intent(number, call));
        (number, self.wait_for_all(state))
    }

    /// Queues an entry, to be stored at once.
    pub(super) fn push_strict(
        &self,
        entry: Entry,
        intent: Option<IntentNumber>,
        place: Place,
    ) -> (Given, oneshot::Receiver<()>) {
        let mut state = self.lock();
        let given = state.push_entry(entry, intent, place);
        (given, self.wait_for_all(state))
    }

    /// Queues an entry, to be stored before `window` has passed.
    pub(super) fn push_relaxed(
        &self,
        entry: Entry,
        intent: Option<IntentNumber>,
        place: Place,
        window: Duration,
    ) -> Given {
        let mut state = self.lock();
        let given = state.push_entry(entry, intent, place);
        if state.due.becomes_earlier(window) || state.is_full(self.batch_bytes) {
            self.wake_thread(state);
        }
        given
    }

    /// Has everything queued so far stored at once. None: it is stored already.
    pub(super) fn push_flush(&self) -> Option<oneshot::Receiver<()>> {
        let state = self.lock();
        (state.settled < state.queued).then(|| self.wait_for_all(state))
    }

    /// Has the thread look after the ring at once, with whatever is queued.
    pub(super) fn look(&self) {
        self.lock().looks = true;
        self.wake.notify_one();
    }

    /// Counts calls that leave no entry.
    pub(super) fn count_dropped(&self, class: Class, calls: u64) {
        let mut state = self.lock();
        state.dropped[class.index()] += calls;
        if state.due.becomes_earlier(DROPPED_WINDOW) {
            self.wake_thread(state);
        }
    }

    /// Records queued and not on stable storage.
    pub(super) fn pending(&self) -> u64 {
        let state = self.lock();
        state.queued - state.settled
    }

    /// Calls that left no entry and are not counted in the ring yet.
    pub(super) fn dropped(&self) -> [u64; 3] {
        self.lock().dropped
    }

    /// Why the store can't be relied on now: the last attempt failed, or the present one takes too long.
    pub(super) fn health(&self) -> Result<(), StoreError> {
        let state = self.lock();
        match (&state.failure, state.closed, state.busy_since) {
            (Some(failure), ..) => Err(StoreError::Failing(failure.clone())),
            (None, Some(_), _) => Err(StoreError::Closed),
            (None, None, Some(since)) if since.elapsed() > STORE_DEADLINE => Err(StoreError::TimedOut),
            (None, None, _) => Ok(()),
        }
    }

    /// How long the thread has been at the same thing; none where it waits for something to do, or for its next attempt.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.lock().busy_since.map(|since| since.elapsed())
    }

    /// What is queued is stored, then the thread ends. What is queued after that is not stored.
    pub(super) fn close(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
        self.wake.notify_one();
    }

    /// The thread has ended before its time.
    pub(super) fn fail(&self, why: &str) {
        self.report(Some(why.to_owned()));
        let mut state = self.lock();
        state.closed.get_or_insert_with(Instant::now);
        // Nobody will be woken any more.
        state.waiting.clear();
    }

    /// Waits until something has to be stored. None: the queue is closed and empty.
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        state.busy_since = None;
        let mut linger_end = None;
        loop {
            let now = Instant::now();
            let is_due = state.closed.is_some()
                || state.is_full(self.batch_bytes)
                || state.due.end().is_some_and(|due| due <= now);
            let is_wanted = state.is_awaited && {
                let end = *linger_end.get_or_insert(now + LINGER);
                now >= end || !state.company.is_expected(state.waiting.len())
            };
            if (is_due || is_wanted) && state.has_work() || state.looks {
                (state.looks, state.lingers) = (false, false);
                state.busy_since = Some(now);
                return Some(state.take_batch(self.batch_bytes));
            }
            if state.closed.is_some() {
                return None;
            }
            state.lingers = state.is_awaited;
            // A window that ends before is kept all the same.
            let end = linger_end.into_iter().chain(state.due.end()).min();
            state = match end {
                Some(end) => self.wake.wait_timeout(state, end - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The batch is done with: answers those who waited for it and frees its places.
    pub(super) fn settle(&self, batch: Batch, answer: Answer) {
        let mut ready = Vec::new();
        {
            let mut state = self.lock();
            state.settled += batch.queued;
            // The WAL may have to be moved now, which can hang as well.
            state.busy_since = Some(Instant::now());
            for (left, stored) in state.dropped.iter_mut().zip(batch.dropped) {
                *left -= stored;
            }
            while let Some((target, _)) = state.waiting.front()
                && *target <= state.settled
            {
                ready.extend(state.waiting.pop_front());
            }
            let waited = ready.len() + state.waiting.len();
            state.company.met(waited);
        }
        for (_, waiting) in ready {
            match answer {
                // Whoever waited may have gone away.
                Answer::Stored => drop(waiting.send(())),
                Answer::NotTaken => drop(waiting),
            }
        }
        free(batch.places);
    }

    /// Remembers how the last attempt to store went, and logs when that changes.
    pub(super) fn report(&self, failure: Option<String>) {
        let mut state = self.lock();
        match (&state.failure, &failure) {
            (None, Some(failure)) => log::error!("the audit store fails, changes are refused: {failure}"),
            (Some(_), None) => log::info!("the audit store works again"),
            _ => {}
        }
        state.failure = failure;
    }

    /// Waits before the next attempt. Gives how long the queue has been closed, if it is.
    pub(super) fn pause(&self, pause: Duration) -> Option<Duration> {
        let mut state = self.lock();
        state.busy_since = None;
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.busy_since = Some(Instant::now());
        state.closed.map(|since| since.elapsed())
    }

    fn wait_for_all(&self, mut state: MutexGuard<'_, State>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let target = state.queued;
        state.waiting.push_back((target, sender));
        // Where nothing is queued, all that is waited for is being stored already.
        if !state.records.is_empty() {
            state.is_awaited = true;
            // Who lingers is not woken by everyone who comes, but by the last of those who are expected.
            if !state.lingers || !state.company.is_expected(state.waiting.len()) {
                self.wake_thread(state);
            }
        }
        receiver
    }

    /// Has the thread look at what there is. The lock is given up first: woken while it is held, the thread would have to sleep again.
    fn wake_thread(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, record: Record) {
        self.bytes += record.bytes();
        self.queued += 1;
        self.records.push(record);
    }

    fn push_entry(&mut self, mut entry: Entry, intent: Option<IntentNumber>, place: Place) -> Given {
        if entry.class == Class::Denied {
            match self.flood.admit(&entry, &self.records) {
                Fate::Own(likeness) => entry = likeness.restrict(entry),
                Fate::Joins(index) => {
                    if let Record::Entry(seq, waiting, _) = &mut self.records[index] {
                        join(waiting, &entry);
                        return Given { seq: *seq, timestamp_ms: waiting.call.arrival.timestamp_ms };
                    }
                }
            }
        }
        self.last_seq.0 += 1;
        let given = Given { seq: self.last_seq, timestamp_ms: entry.call.arrival.timestamp_ms };
        self.push(Record::Entry(given.seq, entry, intent));
        self.places.push(place);
        given
    }

    fn is_full(&self, batch_bytes: usize) -> bool {
        self.records.len() >= BATCH_RECORDS || self.bytes >= batch_bytes
    }

    fn has_work(&self) -> bool {
        !self.records.is_empty() || self.dropped != [0; 3]
    }

    /// The oldest records, as many as one transaction may hold.
    fn take_batch(&mut self, batch_bytes: usize) -> Batch {
        let mut bytes = 0;
        let fits = self.records.iter().take_while(|record| {
            bytes += record.bytes();
            bytes <= batch_bytes
        });
        let taken = fits.count().max(1).min(self.records.len());
        // About as many come again: a list that grows with them would copy them again and again.
        let mut rest = Vec::with_capacity(self.records.len());
        rest.extend(self.records.drain(taken..));
        let mut records = std::mem::replace(&mut self.records, rest);
        self.bytes = self.records.iter().map(Record::bytes).sum();
        self.flood.taken(&self.records);
        if self.records.is_empty() {
            (self.due, self.is_awaited) = (Due::default(), false);
        }
        // They stay counted here until they are counted in the ring file.
        let dropped = self.dropped;
        for class in Class::ALL.into_iter().filter(|class| dropped[class.index()] > 0) {
            records.push(Record::Dropped(class, dropped[class.index()]));
        }
        // A place may be freed one batch early or late; there are as many as entries in memory all the same.
        let entries = records.iter().filter(|record| matches!(record, Record::Entry(..))).count();
        let places = self.places.drain(..entries).collect();
        Batch { records, places, dropped, queued: taken as u64 }
    }
}
