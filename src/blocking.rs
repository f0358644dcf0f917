//! Work that may block, off the async workers: it waits for its turn, and its caller waits for it until a deadline. It must not know what
//! the work is for.

use std::any::Any;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// Work of any kind, with a result of any kind, so that all of it is one kind of task: each further one would add 6 kB to the binary.
type Work = Box<dyn FnOnce() -> Done + Send>;
type Done = Box<dyn Any + Send>;

/// Why there is no result.
pub(crate) enum Unfinished {
    /// The deadline has passed.
    Late,
    /// The work panicked, or the runtime ends.
    Lost(JoinError),
}

/// Runs `work` where it may block, after its `turn` has come. What hangs keeps its turn, so that no more threads hang than there are turns.
///
/// When the deadline passes the caller is told so, while `work` goes on if it has begun.
pub(crate) async fn run<T: Send + 'static>(
    deadline: Instant,
    turn: impl Future<Output = OwnedSemaphorePermit>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let done = run_any(deadline, turn, Box::new(move || -> Done { Box::new(work()) })).await?;
    Ok(*done.downcast().expect("the work gives a T"))
}

async fn run_any(
    deadline: Instant,
    turn: impl Future<Output = OwnedSemaphorePermit>,
    work: Work,
) -> Result<Done, Unfinished> {
    let done = async {
        let turn = turn.await;
        spawn_blocking(move || {
            // Given back when the work is done, also if nobody waits for it any more.
            let _turn = turn;
            work()
        })
        .await
    };
    timeout_at(deadline, done).await.map_err(|_| Unfinished::Late)?.map_err(Unfinished::Lost)
}
