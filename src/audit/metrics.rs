//! Counts of what the agent did since its start, for who watches many agents.
//!
//! Kept where entries are handed in and stored, so that nothing is counted that is not recorded. Nothing here is named by a caller: an
//! operation is one of the program's own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::class::Class;
use super::entry::Entry;
use super::rate::Rates;
use crate::host::clock;

/// Upper bounds of the buckets, in microseconds.
pub const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// How many took how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Histogram {
    /// For each bucket those that fit it and no smaller one; longer ones are only in `count`.
    pub buckets: [u64; BUCKETS_US.len()],
    /// All of them.
    pub count: u64,
    /// The time that they took together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    fn add(&mut self, us: u64) {
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Calls by operation ID, empty where they named none, and by the hundreds of their code: 0 where no response was sent.
    pub calls: BTreeMap<&'static str, [u64; 6]>,
    /// How long the calls of each class took.
    pub durations: [Histogram; 3],
    /// How long commits took.
    pub commits: Histogram,
    /// How long the last one took, in microseconds.
    pub last_commit_us: Option<u64>,
    /// How many entries have come lately.
    pub rates: Rates,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: BTreeMap::new(),
            durations: Default::default(),
            commits: Histogram::default(),
            last_commit_us: None,
            rates: Rates::since(clock::monotonic_us()),
        }
    }
}

/// The counts as they grow.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counts>);

impl Metrics {
    /// What was counted until now.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call.
    pub(super) fn call(&self, class: Class, entry: &Entry) {
        let operation = entry.call.operation.map_or("", |operation| operation.id);
        let hundreds = usize::from(entry.response_code / 100).min(5);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.calls.entry(operation).or_default()[hundreds] += entry.calls;
        counts.durations[class.index()].add(entry.duration_us);
    }

    /// Counts a commit of so many entries of each class.
    pub(super) fn commit(&self, took: Duration, entries: [u64; 3]) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.commits.add(us);
        counts.last_commit_us = Some(us);
        counts.rates.add(entries, clock::monotonic_us());
    }
}
