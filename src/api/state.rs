//! What handlers share. Built once, in `server`.

use std::sync::Arc;

use super::ApiError;
use crate::audit::ring::RingOptions;
use crate::audit::{ReadError, Reader, Writer};
use crate::host::Host;

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
        let _turn = self.reader.turn().await;
        let reader = Arc::clone(&self.reader);
        let done = tokio::task::spawn_blocking(move || read(&reader)).await;
        Ok(done.map_err(|_| ApiError::Internal("The reader of the audit ring panicked.".to_owned()))??)
    }
}
