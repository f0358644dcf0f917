//! The body of an answer: where it ends (RFC 9112, section 6), and what it is when it is compressed (RFC 1952).

use std::io::{self, Write as _};

use flate2::write::GzDecoder;

use super::input::Input;

/// Bytes that are unpacked at once. They can become a thousand times as many, so this bounds the memory of a step.
const PACKED_STEP_BYTES: usize = 1024;

/// Bytes of a line between the chunks.
const LINE_MAX_BYTES: usize = 4096;

/// Bytes of what follows the last chunk.
const TRAILERS_MAX_BYTES: usize = 16 * 1024;

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// After the last chunk.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
    /// It has ended.
    Ended,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// At the size of a chunk.
    Size,
    /// In a chunk, of which so many bytes are left.
    Data(u64),
    /// At the line end behind a chunk.
    End,
    /// Behind the last chunk, after so many bytes of trailers.
    Trailers(usize),
}

/// Why a body can't be read on.
#[derive(Debug)]
pub(super) enum BodyError {
    Io(io::Error),
    Malformed(&'static str),
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn cut_off() -> BodyError {
    BodyError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended within the answer"))
}

impl Framing {
    /// The next piece of the body, at most `most` bytes; none at its end.
    pub(super) async fn next<'a>(&mut self, input: &'a mut Input, most: usize) -> Result<Option<&'a [u8]>, BodyError> {
        loop {
            match self {
                Self::Ended | Self::Length(0) => {
                    *self = Self::Ended;
                    return Ok(None);
                }
                Self::Chunked(Chunk::Data(0)) => *self = Self::Chunked(Chunk::End),
                Self::Length(_) | Self::UntilClose | Self::Chunked(Chunk::Data(_)) => break,
                Self::Chunked(chunk) => {
                    if let Some(next) = chunk.step(input)? {
                        *self = next;
                    } else if input.unread().len() > LINE_MAX_BYTES {
                        return Err(BodyError::Malformed("a line between chunks has no end"));
                    } else if !input.fill().await? {
                        return Err(cut_off());
                    }
                }
            }
        }
        if input.unread().is_empty() && !input.fill().await? {
            if *self != Self::UntilClose {
                return Err(cut_off());
            }
            *self = Self::Ended;
            return Ok(None);
        }
        let there = input.unread().len().min(most);
        let mut unlimited = u64::MAX;
        let left = match self {
            Self::Length(left) | Self::Chunked(Chunk::Data(left)) => left,
            _ => &mut unlimited,
        };
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
        *left -= taken as u64;
        Ok(Some(input.take(taken)))
    }
}

impl Chunk {
    /// Goes over what stands between the data, and gives what comes then; none where more has to come first.
    fn step(&self, input: &mut Input) -> Result<Option<Framing>, BodyError> {
        match self {
            Self::Size => match httparse::parse_chunk_size(input.unread()) {
                Ok(httparse::Status::Complete((taken, size))) => {
                    input.take(taken);
                    let next = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                    Ok(Some(Framing::Chunked(next)))
                }
                Ok(httparse::Status::Partial) => Ok(None),
                Err(_) => Err(BodyError::Malformed("the size of a chunk is none")),
            },
            Self::End => match input.unread() {
                [] | [b'\r'] => Ok(None),
                [b'\r', b'\n', ..] => {
                    input.take(2);
                    Ok(Some(Framing::Chunked(Self::Size)))
                }
                _ => Err(BodyError::Malformed("a chunk is longer than it says")),
            },
            Self::Trailers(before) => {
                let Some(end) = input.unread().iter().position(|&byte| byte == b'\n') else { return Ok(None) };
                let line = input.take(end + 1);
                if matches!(line, b"\n" | b"\r\n") {
                    return Ok(Some(Framing::Ended));
                }
                let bytes = before + line.len();
                if bytes > TRAILERS_MAX_BYTES {
                    return Err(BodyError::Malformed("too much follows the last chunk"));
                }
                Ok(Some(Framing::Chunked(Self::Trailers(bytes))))
            }
            Self::Data(_) => Ok(None),
        }
    }
}

/// A body, unpacked where it is compressed.
pub(super) struct Body {
    framing: Framing,
    gunzip: Option<GzDecoder<Vec<u8>>>,
}

impl Body {
    pub(super) fn new(framing: Framing, is_gzip: bool) -> Self {
        Self { framing, gunzip: is_gzip.then(|| GzDecoder::new(Vec::new())) }
    }

    /// Whether all of it was read, so that the connection can be used again.
    pub(super) fn has_ended(&self) -> bool {
        self.framing == Framing::Ended
    }

    /// The next piece; none at the end. It may be empty.
    pub(super) async fn next(&mut self, input: &mut Input) -> Result<Option<Vec<u8>>, BodyError> {
        let most = if self.gunzip.is_some() { PACKED_STEP_BYTES } else { usize::MAX };
        let piece = self.framing.next(input, most).await?;
        let Some(gunzip) = &mut self.gunzip else { return Ok(piece.map(<[u8]>::to_vec)) };
        let unpack = |_| BodyError::Malformed("its gzip is damaged");
        if let Some(piece) = piece {
            gunzip.write_all(piece).map_err(unpack)?;
            return Ok(Some(std::mem::take(gunzip.get_mut())));
        }
        // At the end what was unpacked is checked, once.
        let Some(gunzip) = self.gunzip.take() else { return Ok(None) };
        gunzip.finish().map(Some).map_err(unpack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body that comes of these bytes, each read giving `step` of them, and whether it is whole.
    async fn read(framing: Framing, is_gzip: bool, bytes: &[u8], step: usize) -> Result<Vec<u8>, BodyError> {
        let (mut agent, stream) = tokio::io::duplex(step);
        let mut input = Input::new(Box::new(stream));
        let mut body = Body::new(framing, is_gzip);
        let send = async move {
            // Whoever reads may have refused the rest.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut agent, bytes).await;
        };
        let receive = async {
            let mut whole = Vec::new();
            while let Some(piece) = body.next(&mut input).await? {
                whole.extend(piece);
            }
            assert!(body.has_ended());
            drop(input);
            Ok(whole)
        };
        futures_util::future::join(send, receive).await.1
    }

    fn all<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn chunked() -> Framing {
        Framing::Chunked(Chunk::Size)
    }

    #[test]
    fn a_body_ends_where_its_framing_says_however_it_arrives() {
        let chunks = b"4\r\nWiki\r\n6;x=\"y\"\r\npedia \r\n0\r\nA: b\r\n\r\nHTTP/1.1";
        for step in [1, 2, 3, 7, 100] {
            assert_eq!(all(read(chunked(), false, chunks, step)).unwrap(), b"Wikipedia ");
            assert_eq!(all(read(Framing::Length(3), false, b"abcdef", step)).unwrap(), b"abc");
            assert_eq!(all(read(Framing::UntilClose, false, b"abcdef", step)).unwrap(), b"abcdef");
        }
        assert_eq!(all(read(Framing::Length(0), false, b"", 1)).unwrap(), b"");
        assert_eq!(all(read(Framing::Ended, false, b"", 1)).unwrap(), b"");
    }

    #[test]
    fn a_body_that_is_cut_off_or_malformed_is_none() {
        for bytes in
            [&b"4\r\nWiki"[..], b"4\r\nWiki\r\n", b"", b"4", b"4\r\nWiki\r\n0\r\n", b"4\r\nWiki\r\n0\r\nA: b\r\n"]
        {
            assert!(matches!(all(read(chunked(), false, bytes, 3)), Err(BodyError::Io(_))), "{bytes:?}");
        }
        assert!(matches!(all(read(Framing::Length(9), false, b"abc", 9)), Err(BodyError::Io(_))));
        let endless = [b"1;".to_vec(), vec![b'x'; LINE_MAX_BYTES * 2]].concat();
        let trailers = [&b"0\r\n"[..], &b"A: b\r\n".repeat(TRAILERS_MAX_BYTES / 6 + 2)].concat();
        for bytes in
            [&b"x\r\n"[..], b"4\r\nWikipedia", b"-1\r\n", b"+1\r\na\r\n", b"fffffffffffffffff\r\n", &endless, &trailers]
        {
            assert!(matches!(all(read(chunked(), false, bytes, 999)), Err(BodyError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_in_small_steps_and_checked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![b'a'; 40 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        let whole = |bytes: &[u8]| all(read(Framing::Length(bytes.len() as u64), true, bytes, 5_000));
        assert_eq!(whole(&packed).unwrap().len(), 40 << 20);
        assert!(matches!(whole(&packed[..packed.len() - 1]), Err(BodyError::Malformed(_))), "cut off");
        assert!(matches!(whole(&[&packed[..], b"x"].concat()), Err(BodyError::Malformed(_))), "something follows");
        let mut damaged = packed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(whole(&damaged), Err(BodyError::Malformed(_))), "the check sum");
        all(async {
            let (agent, stream) = tokio::io::duplex(1 << 20);
            let mut agent = agent;
            tokio::io::AsyncWriteExt::write_all(&mut agent, &packed).await.unwrap();
            let mut input = Input::new(Box::new(stream));
            let mut body = Body::new(Framing::Length(packed.len() as u64), true);
            while let Some(piece) = body.next(&mut input).await.unwrap_or_else(|_| unreachable!()) {
                assert!(piece.len() <= PACKED_STEP_BYTES * 1_100, "{}", piece.len());
            }
        });
    }
}
