//! Work that waits for the node's storage: off the async workers, and never on more threads than there are slots.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::HostError;
use crate::blocking::{self, Unfinished};

/// Work on files that may be waited for at the same time. Disks that hang take no more threads than that, of those that the
/// listener has for the ring too.
pub(super) const STORAGE_SLOTS: usize = 4;

/// How long a caller waits for storage.
const DEADLINE: Duration = Duration::from_secs(5);

/// The slots, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    slots: Arc<Semaphore>,
}

impl Storage {
    /// With all slots free.
    pub(super) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(STORAGE_SLOTS)) }
    }

    /// Runs `work`, which may block, off the async worker.
    ///
    /// When storage does not answer in time the caller is told so, while `work` goes on if it has begun: a change may still happen.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        self.run_within(DEADLINE, what, work).await
    }

    /// A slot, to be kept by what blocks.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn run_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        what: &'static str,
        work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        match blocking::run(Instant::now() + deadline, self.slot(), work).await {
            Ok(result) => result,
            Err(Unfinished::Late) => {
                Err(HostError::unavailable(what, format!("storage did not answer within {} s", deadline.as_secs())))
            }
            Err(Unfinished::Lost(lost)) if lost.is_panic() => std::panic::resume_unwind(lost.into_panic()),
            Err(Unfinished::Lost(_)) => Err(HostError::unavailable(what, "the agent is stopping")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::host::fixture::block_on;

    #[test]
    fn what_hangs_takes_no_more_threads_than_there_are_slots() {
        let storage = Storage::new();
        block_on(async {
            let mut hung = Vec::new();
            for _ in 0..STORAGE_SLOTS {
                let (storage, (begun, begins), (release, released)) = (storage.clone(), channel(), channel());
                let task = tokio::spawn(async move {
                    let work = move || {
                        begun.send(()).unwrap();
                        released.recv().unwrap();
                        Ok(())
                    };
                    storage.run("a disk that hangs", work).await
                });
                while begins.try_recv().is_err() {
                    tokio::task::yield_now().await;
                }
                hung.push((task, release));
            }
            let (begun, begins) = channel();
            let late = storage.run_within(Duration::ZERO, "another", move || {
                begun.send(()).unwrap();
                Ok(())
            });
            let told = late.await.unwrap_err().to_string();
            assert!(told.contains("storage did not answer"), "{told}");
            assert!(begins.recv().is_err(), "it is dropped without having begun");
            for (task, release) in hung {
                release.send(()).unwrap();
                task.await.unwrap().unwrap();
            }
            storage.run("a disk that answers again", || Ok(())).await.unwrap();
        });
    }
}
