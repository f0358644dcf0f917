//! Requests that never reach the middleware.
//!
//! The HTTP library answers a malformed or late head by itself, with 400, 408 or 431, and closes the connection; a peer can also go
//! away before its head is complete. A [`Watched`] stream sees the bytes of both directions and records such a request when the
//! connection ends. It parses nothing while requests are served: an answer of the library's own is always the last one of
//! a connection, has no body, and no header that a response of ours has beside the most common ones.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::class::Class;
use super::entry::{Arrival, Call, Entry, Outcome};
use super::redact::{self, bounded};
use super::writer::Writer;
use crate::auth::Actor;

/// So much of what was read last is kept, to tell what was asked for.
const HEAD_BYTES: usize = 1024;
/// So much of what was written last is kept. The library's own answers have some 130 bytes.
const TAIL_BYTES: usize = 256;

/// A connection whose requests are all recorded.
pub struct Watched<S> {
    stream: S,
    watch: Rc<Watch>,
    /// In which a head has to be complete, from its first byte on.
    head_timeout: Duration,
    /// Wakes the reader of a head that is late. Made when the first one has to be waited for.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What is known of a connection.
pub struct Watch {
    writer: Writer,
    peer: IpAddr,
    seen: RefCell<Seen>,
}

struct Seen {
    /// When the connection, or what was read since the last claim, began.
    since: Instant,
    /// What was read since the last claim, its beginning.
    head: Vec<u8>,
    /// Whether the next byte read belongs to a head, and not to the body of the request claimed last.
    expects_head: bool,
    /// Whether a claimed request is not answered yet.
    is_serving: bool,
    /// What was written last.
    tail: Vec<u8>,
}

impl<S> Watched<S> {
    /// Watches a connection that `peer` has just opened.
    pub fn new(stream: S, peer: IpAddr, head_timeout: Duration, writer: Writer) -> Self {
        let seen = RefCell::new(Seen {
            since: Instant::now(),
            head: Vec::new(),
            expects_head: true,
            is_serving: false,
            tail: Vec::new(),
        });
        Self { stream, watch: Rc::new(Watch { writer, peer, seen }), head_timeout, alarm: None }
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

/// Whether a request brings a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It does.
    Follows,
    /// What follows is the next request.
    None,
}

impl Watch {
    /// A request has come through to the service: it is recorded there. What follows its head is the next request's.
    pub fn claim(&self, body: Body) {
        let mut seen = self.seen.borrow_mut();
        seen.expects_head = body == Body::None;
        let end = if seen.expects_head { head_end(&seen.head) } else { None };
        match end {
            Some(end) => drop(seen.head.drain(..end)),
            None => seen.head.clear(),
        }
        seen.is_serving = true;
        seen.since = Instant::now();
    }

    /// The request claimed last has its answer. What follows it has its time from now on.
    pub fn answered(&self) {
        let mut seen = self.seen.borrow_mut();
        seen.is_serving = false;
        seen.since = Instant::now();
    }

    /// Since when the peer owes the rest of a head, if it does: not while it waits for an answer itself.
    fn head_since(&self) -> Option<Instant> {
        let seen = self.seen.borrow();
        let begun = !seen.head.trim_ascii_start().is_empty();
        (seen.expects_head && begun && !seen.is_serving).then_some(seen.since)
    }

    fn has_read(&self, bytes: &[u8]) {
        let mut seen = self.seen.borrow_mut();
        if seen.head.is_empty() && !bytes.is_empty() && seen.expects_head {
            seen.since = Instant::now();
        }
        let room = HEAD_BYTES - seen.head.len();
        seen.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn has_written(&self, bytes: &[u8]) {
        let mut seen = self.seen.borrow_mut();
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (seen.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        seen.tail.drain(..surplus);
        seen.tail.extend_from_slice(bytes);
        // The body of an answer may be long; what follows waits for its end.
        if !seen.head.is_empty() {
            seen.since = Instant::now();
        }
    }

    /// The connection has ended: records the request that the library answered, or those that nobody has answered.
    fn close(&self) {
        let seen = self.seen.borrow();
        let mut unread = if seen.expects_head { seen.head.trim_ascii_start() } else { &[] };
        if let Some(code) = own_answer(&seen.tail) {
            return self.record(&seen, unread, code);
        }
        while !unread.is_empty() {
            let (head, rest) = unread.split_at(head_end(unread).unwrap_or(unread.len()));
            self.record(&seen, head, 0);
            unread = rest.trim_ascii_start();
        }
    }

    fn record(&self, seen: &Seen, head: &[u8], response_code: u16) {
        let Some(place) = self.writer.try_place() else {
            self.writer.drop_call(Class::Denied);
            return;
        };
        let (method, path) = asked_for(head);
        let duration = seen.since.elapsed();
        let call = Call {
            arrival: Arrival::now().before(duration),
            method,
            path,
            operation: None,
            actor: Arc::new(Actor::default()),
            source_ip: self.peer,
            trace_id: None,
            user_agent: None,
            forwarded_for: None,
        };
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let entry = Entry {
            call,
            class: Class::Denied,
            outcome: Outcome::Rejected,
            response_code,
            duration_us,
            calls: 1,
            span_us: 0,
        };
        self.writer.record(entry, None, place);
    }
}

/// Where the first complete head in `bytes` ends. Empty lines may stand before it (RFC 9112, section 2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    let begin = bytes.len() - bytes.trim_ascii_start().len();
    let end = bytes[begin..].windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(begin + end + 4)
}

/// The status of the library's own answer, if that is what was written last: a status line of 4xx or 5xx and nothing but the
/// three headers of an answer without a body. No response body of ours can end like that: JSON holds no line break.
fn own_answer(tail: &[u8]) -> Option<u16> {
    let tail = tail.strip_suffix(b"\r\n\r\n")?;
    let begin = tail.windows(9).rposition(|bytes| bytes == b"HTTP/1.1 " || bytes == b"HTTP/1.0 ")?;
    let head = std::str::from_utf8(&tail[begin..]).ok()?;
    let mut lines = head.split("\r\n");
    let code = lines.next()?.split(' ').nth(1)?;
    let code = if code.len() == 3 { code.parse().ok().filter(|code| (400..600).contains(code))? } else { return None };
    let mut is_empty = false;
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => is_empty = value == "0",
            "connection" | "date" => {}
            _ => return None,
        }
    }
    is_empty.then_some(code)
}

/// Method and path as far as a head's first line tells them: nothing where it may be anything else, such as a part of a body.
fn asked_for(head: &[u8]) -> (String, String) {
    let line = head.trim_ascii_start().split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let method = words.next().unwrap_or_default();
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Default::default();
    }
    // Neither a query nor a fragment is ever stored, nor a target that can hold a password.
    let path = words.next().and_then(|target| target.split(|&byte| byte == b'?' || byte == b'#').next());
    let path = path.filter(|path| path.starts_with(b"/") || *path == b"*").unwrap_or_default();
    let text = |bytes, max_bytes| bounded(&String::from_utf8_lossy(bytes), max_bytes);
    (text(method, redact::METHOD_MAX_BYTES), text(path, redact::PATH_MAX_BYTES))
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            read?;
            self.watch.has_read(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        // The HTTP library bounds the first head of a connection only.
        let Some(since) = self.watch.head_since() else { return Poll::Pending };
        let deadline = since + self.head_timeout;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.watch.has_written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_own_answer_is_known_by_its_form() {
        let own = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: x\r\n\r\n";
        assert_eq!(own_answer(own), Some(400));
        let after_another = [&b"HTTP/1.1 200 OK\r\naudit-id: x\r\ncontent-length: 2\r\n\r\n{}"[..], own].concat();
        assert_eq!(own_answer(&after_another), Some(400));
        let others: [&[u8]; 8] = [
            b"{\"user_agent\":\"HTTP/1.1 500 x\"}]}\r\n0\r\n\r\n",
            b"HTTP/1.1 60000 x\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"",
            b"HTTP/1.1 404 Not Found\r\nAudit-Id: x\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
        ];
        for tail in others {
            assert_eq!(own_answer(tail), None, "{}", String::from_utf8_lossy(tail));
        }
    }

    #[test]
    fn method_and_path_are_read_from_whatever_came() {
        let asked = |head: &[u8]| asked_for(head);
        let told = |method: &str, path: &str| (method.to_owned(), path.to_owned());
        assert_eq!(asked(b"GET /node/hostname?token=secret HTTP/1.1\r\nHo"), told("GET", "/node/hostname"));
        assert_eq!(asked(b"\r\nGET /a"), told("GET", "/a"));
        assert_eq!(asked(b"GET"), told("GET", ""));
        assert_eq!(asked(b"GET /\x1b[31m\xff HTTP/1.1"), told("GET", "/\\u{1b}[31m\u{fffd}"));
        assert_eq!(asked(b"\x16\x03\x01\x02 /"), told("", ""));
        assert_eq!(asked(b""), told("", ""));
        for secret in
            ["GET http://user:HUNTER2@h/ HTTP/9", "POST HUNTER2 x HTTP/1.1", "password HUNTER2", "GET /a#HUNTER2"]
        {
            let (method, path) = asked(secret.as_bytes());
            assert!(!format!("{method} {path}").contains("HUNTER2"), "{secret}");
        }
    }

    #[test]
    fn empty_lines_before_a_head_belong_to_it() {
        assert_eq!(head_end(b"\r\n\r\nGET / HTTP/1.1\r\n\r\nGET"), Some(22));
        assert_eq!(head_end(b"\r\n\r\n"), None);
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n"), None);
    }
}
