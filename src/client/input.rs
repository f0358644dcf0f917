//! Bytes from an agent, as they come, in a buffer of fixed size.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Bytes that are held at once; so also what a head can have.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// A connection, and what of it has come and was not taken yet.
pub(super) struct Input {
    pub(super) stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 }
    }

    /// What has come and was not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing more fits in.
    pub(super) const fn is_full(&self) -> bool {
        self.end - self.start == BUFFER_BYTES
    }

    /// Takes so many of the bytes that have come.
    pub(super) fn take(&mut self, bytes: usize) -> &[u8] {
        let from = self.start;
        self.start = (from + bytes).min(self.end);
        &self.buffer[from..self.start]
    }

    /// Waits for more. Gives whether something came; not at the end, or where nothing fits in.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read > 0)
    }
}
