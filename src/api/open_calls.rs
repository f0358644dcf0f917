//! Calls that stay open: streams, each with a place, and polls that wait for news.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The calls that are open now.
#[derive(Debug)]
pub struct OpenCalls {
    places: Arc<Semaphore>,
    max_streams: usize,
    waiting: AtomicU64,
}

/// How many calls are open.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct OpenCounts {
    /// Streams that are open now.
    pub(super) streams: u64,
    /// Streams that may be open at a time: `server.max_streams`.
    pub(super) max_streams: u64,
    /// Polls that wait for news now (`wait`).
    pub(super) waiting_polls: u64,
}

/// A poll that waits; until it is dropped.
#[derive(Debug)]
pub(super) struct WaitingPoll<'a>(&'a AtomicU64);

impl OpenCalls {
    /// None is open; so many streams may be.
    pub fn new(max_streams: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(max_streams)), max_streams, waiting: AtomicU64::new(0) }
    }

    /// A place for a stream, for as long as it is open. None: all are taken.
    pub(super) fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Counts a poll that begins to wait.
    pub(super) fn poll(&self) -> WaitingPoll<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        WaitingPoll(&self.waiting)
    }

    /// How many there are.
    pub(super) fn counts(&self) -> OpenCounts {
        OpenCounts {
            streams: self.max_streams.saturating_sub(self.places.available_permits()) as u64,
            max_streams: self.max_streams as u64,
            waiting_polls: self.waiting.load(Ordering::Relaxed),
        }
    }
}

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
