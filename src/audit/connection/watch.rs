//! What is known of a connection: which request the library has, whether it has come through, and what waits behind it.

use std::cell::RefCell;
use std::task::Waker;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Origin;
use super::framing::Framing;
use super::heads::{asked_for, own_answer};
use super::unserved::record;
use crate::audit::writer::Writer;

/// So much of what was written last is kept. The library's own answers have some 130 bytes.
const TAIL_BYTES: usize = 256;

/// What is known of a connection.
pub struct Watch {
    writer: Writer,
    origin: Origin,
    pub(super) seen: RefCell<Seen>,
}

/// What has been seen of it so far.
pub(super) struct Seen {
    /// The request that the library has, as far as it has come.
    pub(super) framing: Framing,
    /// Whether the library has any byte of it, be it an empty line.
    pub(super) has_begun: bool,
    /// When that began: its first byte, or its head's end where a body follows; the end of the one before where nothing has come.
    pub(super) since: Instant,
    /// Whether it has come through to the service.
    pub(super) is_claimed: bool,
    /// Whether it was claimed and is not answered yet.
    is_serving: bool,
    /// What the peer has sent beyond it.
    pub(super) held: Vec<u8>,
    /// Woken when it is answered, if something has come that waits for that. The socket and the alarm wake it as well, so a connection
    /// on which nothing waits is left alone: for each call its task would be run once more than it has to.
    pub(super) reader: Option<Waker>,
    /// Nothing is read any more.
    pub(super) end: Option<End>,
    /// What was written last.
    tail: Vec<u8>,
}

/// Why nothing more is read from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It said that nothing more comes.
    Eof,
    /// Its body took too long.
    LateBody,
    /// What follows is not a request: a tunnel that nobody opens.
    Tunnel,
}

/// Whether a request brings a body, as the library sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It does, of a size that its head tells or in chunks.
    Follows,
    /// All that comes until the connection ends: a tunnel.
    Endless,
    /// It does not.
    None,
}

impl Watch {
    pub(super) fn new(writer: Writer, origin: Origin) -> Self {
        let seen = RefCell::new(Seen {
            framing: Framing::new(),
            has_begun: false,
            since: Instant::now(),
            is_claimed: false,
            is_serving: false,
            held: Vec::new(),
            reader: None,
            end: None,
            tail: Vec::new(),
        });
        Self { writer, origin, seen }
    }

    /// A request has come through to the service: it is recorded there.
    pub fn claim(&self, body: Body) {
        let mut seen = self.seen.borrow_mut();
        if body == Body::Endless || (body == Body::Follows) != seen.framing.has_body() {
            // A request to open a tunnel, or one whose end the library sees elsewhere: what follows can't be told apart.
            seen.end = Some(End::Tunnel);
        }
        (seen.is_claimed, seen.is_serving) = (true, true);
        if !seen.framing.is_complete() {
            // Its body has its time from now on. One that is complete waits for nothing but the answer.
            seen.since = Instant::now();
        }
    }

    /// The request claimed last has its whole answer. What follows it has its time from now on.
    pub fn answered(&self) {
        let mut seen = self.seen.borrow_mut();
        seen.is_serving = false;
        if seen.framing.is_complete() {
            seen.since = Instant::now();
        }
        let waits = !seen.held.is_empty() || seen.end.is_some();
        if let Some(reader) = seen.reader.take().filter(|_| waits) {
            reader.wake();
        }
    }

    /// Whether the body of the request claimed last was cut off because it took too long.
    pub fn is_late(&self) -> bool {
        self.seen.borrow().end == Some(End::LateBody)
    }

    pub(super) fn has_written(&self, bytes: &[u8]) {
        let mut seen = self.seen.borrow_mut();
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (seen.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        seen.tail.drain(..surplus);
        seen.tail.extend_from_slice(bytes);
        // The body of an answer may be long; what follows waits for its end.
        if seen.framing.is_in_head() {
            seen.since = Instant::now();
        }
    }

    /// The connection has ended: records the request that the library answered, or those that nobody has answered.
    pub(super) fn close(&self) {
        let mut seen = self.seen.borrow_mut();
        let seen = &mut *seen;
        let age = seen.since.elapsed();
        let has_begun = seen.framing.is_in_head() || (seen.framing.has_head() && !seen.is_claimed);
        if let Some(answer) = own_answer(&seen.tail) {
            // What stands behind a request that can't be read is no request.
            let first_line = if has_begun { seen.framing.first_line() } else { b"" };
            return record(&self.writer, &self.origin, age, asked_for(first_line), answer.code);
        }
        if has_begun {
            record(&self.writer, &self.origin, age, asked_for(seen.framing.first_line()), 0);
        }
        if seen.end == Some(End::Tunnel) {
            return;
        }
        let mut held = seen.held.as_slice();
        while !held.is_empty() {
            seen.framing.begin();
            held = &held[seen.framing.feed(held)..];
            if seen.framing.is_in_head() || seen.framing.has_head() {
                record(&self.writer, &self.origin, Duration::ZERO, asked_for(seen.framing.first_line()), 0);
            }
        }
    }
}

impl Seen {
    /// Whether the next request may come through.
    pub(super) fn next_may_begin(&self) -> bool {
        self.framing.is_complete() && self.is_claimed && !self.is_serving
    }

    pub(super) fn begin(&mut self) {
        self.framing.begin();
        (self.has_begun, self.is_claimed) = (false, false);
    }

    /// Takes in what was read, and gives how much of it belongs to the present request.
    pub(super) fn has_read(&mut self, bytes: &[u8]) -> usize {
        let was_in_body = self.framing.is_in_body();
        let taken = self.framing.feed(bytes);
        // Its first byte, the end of its head, or its last byte after the answer.
        if taken > 0 && (!self.has_begun || !was_in_body && self.framing.is_in_body() || self.next_may_begin()) {
            self.since = Instant::now();
        }
        self.has_begun |= taken > 0;
        taken
    }

    /// Gives the library what was held back, as far as it belongs to the present request.
    pub(super) fn release(&mut self, buffer: &mut ReadBuf<'_>) {
        let mut held = std::mem::take(&mut self.held);
        let taken = self.has_read(&held[..held.len().min(buffer.remaining())]);
        buffer.put_slice(&held[..taken]);
        held.drain(..taken);
        self.held = held;
    }
}
