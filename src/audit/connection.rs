//! Connections whose requests are all recorded, those that never reach the middleware included.
//!
//! The HTTP library answers a malformed or late head by itself, with 400, 408 or 431, and closes the connection; a peer can also go
//! away before its request is complete. A [`Watched`] stream sees the bytes of both directions. It lets one request at a time
//! through to the library, so that at the end of the connection it is known which one has no entry: that is recorded here. An
//! answer of the library's own is known by its form: it is the last one of a connection, has no body, and no header that a
//! response of ours has beside the most common ones.
//!
//! It also ends what takes too long: a head, a body, a response that nobody reads.

mod framing;
mod heads;
mod unserved;
mod watch;

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::writer::Writer;
use crate::auth::Actor;
use heads::own_answer;
use watch::End;

pub use unserved::{Unserved, record_unserved};
pub use watch::{Body, Watch};

/// What ends a head.
const LINE_END: &[u8] = b"\r\n";

/// What tells the peer of the end of the connection (RFC 9112, section 9.6).
const CONNECTION_ENDS: &[u8] = b"connection: close\r\n";
/// So much of what a peer sends before it is answered waits here; the rest waits in the kernel.
const HELD_BYTES: usize = 16 * 1024;

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The peer's address.
    pub address: IpAddr,
    /// Who it is, where that is known without a request.
    pub actor: Option<Arc<Actor>>,
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self { address, actor: None }
    }
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct PeerDeadlines {
    /// For the head of a request, from its first byte on.
    pub head: Duration,
    /// For its body, from the end of its head on.
    pub body: Duration,
    /// For the first byte of a request. The library has a timer of its own, which comes first where nothing confuses it.
    pub idle: Duration,
}

/// A connection whose requests are all recorded.
pub struct Watched<S> {
    stream: S,
    watch: Rc<Watch>,
    deadlines: PeerDeadlines,
    /// Wakes the reader of a request that is late. Made when the first one has to be waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Header lines that go into the library's own answers.
    own_headers: &'static [u8],
    /// What is still to be written before the last line break of one.
    amendment: Vec<u8>,
}

impl<S> Watched<S> {
    /// Watches a connection that was just opened. The library's own answers get these header lines.
    pub fn new(
        stream: S,
        origin: Origin,
        deadlines: PeerDeadlines,
        writer: Writer,
        own_headers: &'static [u8],
    ) -> Self {
        let watch = Rc::new(Watch::new(writer, origin));
        Self { stream, watch, deadlines, alarm: None, own_headers, amendment: Vec::new() }
    }

    /// What is watched.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// What requests of this connection are claimed at.
    pub fn watch(&self) -> Rc<Watch> {
        Rc::clone(&self.watch)
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.watch.close();
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Keeps what comes before the present request is answered; tells the library only that the peer has gone.
    fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut seen = self.watch.seen.borrow_mut();
        seen.reader = Some(context.waker().clone());
        let mut bytes = [MaybeUninit::uninit(); 1024];
        while seen.held.len() < HELD_BYTES && seen.end.is_none() {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                seen.end = Some(End::Eof);
            }
            seen.held.extend_from_slice(buffer.filled());
        }
        if seen.held.is_empty() && seen.end == Some(End::Eof) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Waits while nothing comes, until it takes too long. While the agent itself has to answer, only the alarm is kept going: nobody
    /// may ask again before the peer has been silent for too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let seen = self.watch.seen.borrow();
            let is_answering = seen.is_claimed && seen.framing.is_complete();
            let deadline = if is_answering {
                Instant::now() + self.deadlines.idle
            } else if seen.framing.is_in_body() {
                seen.since + self.deadlines.body
            } else if seen.has_begun {
                seen.since + self.deadlines.head
            } else {
                seen.since + self.deadlines.idle
            };
            drop(seen);
            // A timer that ends too early is asked again; setting it anew for each request would cost more.
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if alarm.deadline() > deadline || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(context));
            if !is_answering && Instant::now() >= deadline {
                break;
            }
        }
        let mut seen = self.watch.seen.borrow_mut();
        if !seen.framing.is_in_body() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        seen.end = Some(End::LateBody);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        {
            let mut seen = this.watch.seen.borrow_mut();
            if matches!(seen.end, Some(End::LateBody | End::Tunnel)) {
                return Poll::Ready(Ok(()));
            }
            if seen.framing.is_complete() {
                if !seen.next_may_begin() {
                    drop(seen);
                    return match this.poll_hold(context) {
                        Poll::Pending => this.poll_patience(context),
                        ended @ Poll::Ready(_) => ended,
                    };
                }
                seen.begin();
            }
            if !seen.held.is_empty() {
                seen.release(buffer);
                return Poll::Ready(Ok(()));
            }
            if seen.end.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            read?;
            let mut seen = this.watch.seen.borrow_mut();
            let taken = seen.has_read(&buffer.filled()[before..]);
            seen.held.extend_from_slice(&buffer.filled()[before + taken..]);
            buffer.set_filled(before + taken);
            return Poll::Ready(Ok(()));
        }
        // The HTTP library bounds the first head of a connection only, and no body.
        this.poll_patience(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // An answer of the library's own ends what is written, and its head ends in an empty line: all but that goes first.
        if let Some(answer) = own_answer(bytes) {
            // Who keeps connections for further calls would lose the next one in a connection that ends and does not say so.
            let end = if answer.tells_end { &b""[..] } else { CONNECTION_ENDS };
            this.amendment = [end, this.own_headers].concat();
        }
        if bytes == LINE_END {
            while !this.amendment.is_empty() {
                let written = ready!(Pin::new(&mut this.stream).poll_write(context, &this.amendment))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                this.amendment.drain(..written);
            }
        }
        let end = bytes.len() - if this.amendment.is_empty() { 0 } else { LINE_END.len() };
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..end]))?;
        this.watch.has_written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
