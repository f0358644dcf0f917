//! Whether the agent does its work: the event loop of each worker turns, and the writer's thread comes to an end with what it does.
//!
//! Looks from within. A call of its own would be recorded like every other, and write to flash every few seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::Writer;

/// Why the agent can't be said to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ailment {
    /// A worker has something that does not give its event loop back.
    #[error("a worker has not turned its event loop for {} s", .0.as_secs())]
    Worker(Duration),
    /// A write, a sync or a checkpoint does not return.
    #[error("the audit store has been at one write for {} s", .0.as_secs())]
    Writer(Duration),
}

/// What is watched. Clones watch the same.
#[derive(Clone, Debug)]
pub(crate) struct Vitals {
    writer: Writer,
    /// When the event loop of each worker was last seen to turn.
    turned: Arc<Mutex<Vec<Instant>>>,
}

impl Vitals {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, turned: Arc::default() }
    }

    /// Watches the event loop that this is called on; it has to turn every so often.
    pub(crate) fn watch_worker(&self, every: Duration) {
        let turned = Arc::clone(&self.turned);
        let number = {
            let mut turned = lock(&turned);
            turned.push(Instant::now());
            turned.len() - 1
        };
        actix_web::rt::spawn(async move {
            loop {
                actix_web::rt::time::sleep(every).await;
                lock(&turned)[number] = Instant::now();
            }
        });
    }

    /// Fails where something has not moved for that long.
    pub(crate) fn check(&self, limit: Duration) -> Result<(), Ailment> {
        let slowest = lock(&self.turned).iter().map(Instant::elapsed).max().unwrap_or_default();
        let busy = self.writer.busy_for().unwrap_or_default();
        match (busy > limit, slowest > limit) {
            (true, _) => Err(Ailment::Writer(busy)),
            (false, true) => Err(Ailment::Worker(slowest)),
            (false, false) => Ok(()),
        }
    }
}

fn lock(turned: &Mutex<Vec<Instant>>) -> MutexGuard<'_, Vec<Instant>> {
    turned.lock().unwrap_or_else(PoisonError::into_inner)
}
