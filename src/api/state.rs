//! What handlers share. Built once, in `server`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::json::Pending;
use super::{ApiError, OpenCalls};
use crate::audit::redact::bounded;
use crate::audit::ring::RingOptions;
use crate::audit::{ReadError, Reader, Writer};
use crate::auth::Authenticator;
use crate::blocking::{self, Unfinished};
use crate::host::Host;
use crate::live::Live;
use crate::reload::Reloader;

/// The longest that a caller waits for the ring: for what was recorded before to become visible, for a turn, for the read.
const RING_DEADLINE: Duration = Duration::from_secs(2);

/// The longest name of a node (`gethostname(2)`), some of it escaped.
const HOSTNAME_MAX_BYTES: usize = 256;

/// When a caller that waits for the ring is answered that it does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingDeadline(Instant);

impl RingDeadline {
    /// The deadline of a call that begins to wait now.
    pub(super) fn from_now() -> Self {
        Self(Instant::now() + RING_DEADLINE)
    }
}

/// Everything a handler can reach.
pub struct AppState {
    /// The node.
    pub host: Host,
    /// The read side of the ring.
    pub reader: Arc<Reader>,
    /// The write side of the ring.
    pub writer: Writer,
    /// What the ring may hold.
    pub ring: RingOptions,
    /// The longest that a handler may take.
    pub handler_timeout: Duration,
    /// Whose calls are accepted.
    pub authenticator: Live<Authenticator>,
    /// The calls that stay open.
    pub open_calls: OpenCalls,
    /// The longest that one is open.
    pub stream_max: Duration,
    /// The OpenAPI document.
    pub openapi: Live<String>,
    /// What was read again since the start.
    pub reloader: Arc<Reloader>,
}

impl AppState {
    /// The node's name, as it may stand in any format; a node without one has entries all the same.
    pub(super) fn hostname(&self) -> String {
        let hostname = self.host.hostname().map(|reading| reading.hostname).unwrap_or_default();
        bounded(&hostname, HOSTNAME_MAX_BYTES)
    }

    /// Makes what was recorded before this call visible to readers. Where the store can't within half of the time, the reader is told how
    /// much is missing.
    pub(super) async fn make_visible(&self, RingDeadline(deadline): RingDeadline) -> Pending {
        let flushed = tokio::time::timeout_at(deadline - RING_DEADLINE / 2, self.writer.flush());
        if self.writer.health().is_ok() && matches!(flushed.await, Ok(Ok(()))) {
            return Pending(0);
        }
        Pending(self.writer.pending())
    }

    /// Runs a read of the ring where it may block, after its turn has come.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        RingDeadline(deadline): RingDeadline,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let reader = Arc::clone(&self.reader);
        let done = blocking::run(deadline, self.reader.turn(), move || read(&reader)).await;
        let read = done.map_err(|unfinished| match unfinished {
            Unfinished::Late => ApiError::Unavailable("The audit ring could not be read in time.".to_owned()),
            Unfinished::Lost(_) => ApiError::Internal("The reader of the audit ring panicked.".to_owned()),
        })?;
        if read.is_err() {
            // It may be damaged or gone, which only the writer can mend.
            self.writer.look_after_ring();
        }
        Ok(read?)
    }
}
