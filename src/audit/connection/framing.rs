//! Where a request ends on its connection (RFC 9112, sections 2, 6 and 7).
//!
//! Reads just enough to know that: line ends, the length of a body, chunks. Judges nothing: whether a request is well-formed is for
//! the HTTP library to say.

use memchr::memchr;

/// So much of a first line is kept, to tell what was asked for.
const FIRST_LINE_BYTES: usize = 1024;
/// So much of another line is kept where it comes in parts: enough for a length.
const LINE_BYTES: usize = 128;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    RequestLine,
    Header,
    /// A body, or a chunk of one: so many bytes are to come.
    Bytes(u64),
    ChunkSize,
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    /// Nothing: the request is complete.
    End,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
}

/// One request as far as its bytes have come.
#[derive(Debug)]
pub(super) struct Framing {
    part: Part,
    length: Length,
    /// The beginning of the request line.
    first_line: Vec<u8>,
    /// A line that has no end yet, its beginning.
    line: Vec<u8>,
}

impl Framing {
    /// Nothing has come.
    pub(super) const fn new() -> Self {
        Self { part: Part::RequestLine, length: Length::Bytes(0), first_line: Vec::new(), line: Vec::new() }
    }

    /// Begins the next request.
    pub(super) fn begin(&mut self) {
        (self.part, self.length) = (Part::RequestLine, Length::Bytes(0));
        self.first_line.clear();
        self.line.clear();
    }

    /// Takes the bytes that follow, and gives how many of them belong to this request.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.part != Part::End {
            let rest = &bytes[at..];
            if let Part::Bytes(left) = self.part {
                let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                self.part = self.after_bytes(left - taken as u64);
                at += taken;
                continue;
            }
            match memchr(b'\n', rest) {
                Some(end) if self.line.is_empty() => {
                    self.end_line(&rest[..end]);
                    at += end + 1;
                }
                Some(end) => {
                    self.keep(&rest[..end]);
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&line);
                    at += end + 1;
                }
                None => {
                    self.keep(rest);
                    at = bytes.len();
                }
            }
        }
        at
    }

    /// Whether the whole request has come.
    pub(super) fn is_complete(&self) -> bool {
        self.part == Part::End
    }

    /// Whether a head has begun and has no end. Empty lines before it are nothing (RFC 9112, section 2.2).
    pub(super) fn is_in_head(&self) -> bool {
        match self.part {
            Part::RequestLine => !self.line.trim_ascii().is_empty(),
            Part::Header => true,
            Part::Bytes(_) | Part::ChunkSize | Part::ChunkEnd | Part::Trailer | Part::End => false,
        }
    }

    /// Whether a whole head has come.
    pub(super) fn has_head(&self) -> bool {
        !matches!(self.part, Part::RequestLine | Part::Header)
    }

    /// Whether a body has begun and has no end.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.part, Part::Bytes(_) | Part::ChunkSize | Part::ChunkEnd | Part::Trailer)
    }

    /// Whether a body belongs to the request, as far as is known.
    pub(super) fn has_body(&self) -> bool {
        self.length != Length::Bytes(0)
    }

    /// The request line, or its beginning.
    pub(super) fn first_line(&self) -> &[u8] {
        if self.part == Part::RequestLine { &self.line } else { &self.first_line }
    }

    fn keep(&mut self, part: &[u8]) {
        let max = if self.part == Part::RequestLine { FIRST_LINE_BYTES } else { LINE_BYTES };
        let room = max.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self, line: &[u8]) {
        if self.part == Part::Trailer && !line.ends_with(b"\r") {
            // The HTTP library takes it for a part of the line.
            self.line.push(b' ');
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.part = match self.part {
            Part::RequestLine if line.trim_ascii().is_empty() => Part::RequestLine,
            Part::RequestLine => {
                self.first_line.extend_from_slice(&line[..line.len().min(FIRST_LINE_BYTES)]);
                Part::Header
            }
            Part::Header if line.is_empty() => match self.length {
                Length::Bytes(0) => Part::End,
                Length::Bytes(bytes) => Part::Bytes(bytes),
                Length::Chunked => Part::ChunkSize,
            },
            Part::Header => {
                self.length = length_of(line).unwrap_or(self.length);
                Part::Header
            }
            Part::ChunkSize => match chunk_size(line) {
                0 => Part::Trailer,
                size => Part::Bytes(size),
            },
            Part::ChunkEnd => Part::ChunkSize,
            Part::Trailer if line.is_empty() => Part::End,
            Part::Trailer | Part::Bytes(_) | Part::End => self.part,
        };
    }

    fn after_bytes(&self, left: u64) -> Part {
        match self.length {
            _ if left > 0 => Part::Bytes(left),
            Length::Bytes(_) => Part::End,
            Length::Chunked => Part::ChunkEnd,
        }
    }
}

/// What a header line says of the body's length.
fn length_of(line: &[u8]) -> Option<Length> {
    // Most lines are told apart by their first letter.
    if !matches!(line.first()?, b'c' | b'C' | b't' | b'T') {
        return None;
    }
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        return std::str::from_utf8(value).ok()?.parse().ok().map(Length::Bytes);
    }
    let chunked = name.eq_ignore_ascii_case(b"transfer-encoding") && value.to_ascii_lowercase().ends_with(b"chunked");
    chunked.then_some(Length::Chunked)
}

/// The size of a chunk; what is none ends the body here as it does for the HTTP library.
fn chunk_size(line: &[u8]) -> u64 {
    let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Requests, each with its length.
    const REQUESTS: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\nGET /a HTTP/1.1\nHost: a\n\n",
        b"PUT /b HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:  5 \r\n\r\n\r\n\r\n\r",
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;x=y\r\na\r\n\r\n\r\n0\r\nTrailer: b\r\n\r\n",
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\n b\r\n\r\n",
        b"GET /d HTTP/1.1\r\nContent-Length: 0\r\nCookie: c\r\n\r\n",
        b"POST /e HTTP/1.1\r\nContent-Length: 1\r\n\r\n\n",
        b"CONNECT a:1 HTTP/1.1\r\nTE: trailers\r\n\r\n",
    ];

    /// The lengths of the requests in `bytes`, which come in parts of these sizes.
    fn lengths(bytes: &[u8], sizes: &[usize]) -> Vec<usize> {
        let (mut framing, mut lengths, mut length) = (Framing::new(), Vec::new(), 0);
        let (mut rest, mut sizes) = (bytes, sizes.iter().copied().cycle());
        while !rest.is_empty() {
            let (mut part, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
            while !part.is_empty() {
                let taken = framing.feed(part);
                (part, length) = (&part[taken..], length + taken);
                if framing.is_complete() {
                    lengths.push(std::mem::take(&mut length));
                    framing.begin();
                }
            }
            rest = later;
        }
        lengths
    }

    #[test]
    fn what_has_come_is_told() {
        let mut framing = Framing::new();
        framing.feed(b"\r\n");
        assert!(!framing.is_in_head(), "an empty line is nothing");
        framing.feed(b"PUT /a");
        assert!(framing.is_in_head());
        assert_eq!(framing.first_line(), b"PUT /a");
        framing.feed(b" HTTP/1.1\r\nContent-Le");
        assert_eq!(framing.first_line(), b"PUT /a HTTP/1.1");
        framing.feed(b"ngth: 2\r\n\r\n");
        assert!(framing.is_in_body() && framing.has_body() && !framing.is_complete());
        assert_eq!(framing.feed(b"{}GET"), 2);
        assert!(framing.is_complete());
    }

    proptest! {
        #[test]
        fn requests_are_told_apart_in_whatever_parts_they_come(
            order in prop::collection::vec(0..REQUESTS.len(), 1..6), sizes in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let bytes: Vec<u8> = order.iter().flat_map(|&number| REQUESTS[number]).copied().collect();
            let expected: Vec<usize> = order.iter().map(|&number| REQUESTS[number].len()).collect();
            prop_assert_eq!(lengths(&bytes, &sizes), expected);
        }

        #[test]
        fn no_bytes_are_too_wild(bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1_usize..40, 1..8)) {
            prop_assert!(lengths(&bytes, &sizes).iter().sum::<usize>() <= bytes.len());
        }
    }
}
