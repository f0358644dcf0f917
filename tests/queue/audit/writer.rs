//! The queue and its models.

#[path = "../../../src/audit/writer/company.rs"]
mod company;
mod control;
#[path = "../../../src/audit/writer/due.rs"]
mod due;
#[path = "../../../src/audit/writer/flood.rs"]
mod flood;
mod model;
#[path = "../../../src/audit/writer/queue.rs"]
#[expect(clippy::redundant_closure_for_method_calls, reason = "where it is at home, the type is another one")]
mod queue;
mod store;
#[expect(clippy::unnecessary_wraps, reason = "the signatures are those of std")]
mod sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nodeaudit::audit::StoreError;

const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// A place as the queue sees it: something to keep for as long as its entry is in memory.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place among those that `taken` counts.
    fn take(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(taken))
    }
}

/// Frees places, each by itself.
fn free(places: Vec<Place>) {
    drop(places);
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
