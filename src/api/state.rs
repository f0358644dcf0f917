//! What handlers share. Built once, in `server`.

use std::sync::Arc;
use std::time::Duration;

use super::ApiError;
use crate::audit::ring::RingOptions;
use crate::audit::{ReadError, Reader, Writer};
use crate::host::Host;

/// The longest that a read of the ring may take, its wait for a turn included.
const READ_DEADLINE: Duration = Duration::from_secs(10);

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
    /// The OpenAPI document.
    pub openapi: String,
}

impl AppState {
    /// Runs a read of the ring where it may block, after its turn has come.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let reader = Arc::clone(&self.reader);
        let done = async {
            let turn = reader.turn().await;
            tokio::task::spawn_blocking(move || {
                // Given back when the read is done, also if nobody waits for it any more.
                let _turn = turn;
                read(&reader)
            })
            .await
        };
        let late = |_| ApiError::Unavailable("The audit ring could not be read in time.".to_owned());
        let done = tokio::time::timeout(READ_DEADLINE, done).await.map_err(late)?;
        Ok(done.map_err(|_| ApiError::Internal("The reader of the audit ring panicked.".to_owned()))??)
    }
}
