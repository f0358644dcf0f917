//! A connection to an agent, by whichever road, and the head of an answer on it.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::body::{Body, Chunk, Framing};
use super::input::{Input, Stream};
use super::target::Road;

/// Lines of a head.
const HEADERS_MAX: usize = 64;

/// Interim answers before the one that counts.
const INTERIM_MAX: usize = 8;

/// Why there is no connection, or no head on it.
#[derive(Debug)]
pub(super) enum ConnectionError {
    /// No connection comes about.
    Connect(io::Error),
    /// No TLS comes about.
    Tls(io::Error),
    /// It broke; whether anything of an answer had come.
    Broken(io::Error, Begun),
    /// It is not HTTP as an agent speaks it.
    Malformed(&'static str),
}

/// Whether anything of an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Yes,
    No,
}

/// The head of an answer, and the body that is to come.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    /// Whether another request can follow on the connection.
    pub(super) is_kept: bool,
}

/// Connects, and shakes hands where that is due.
pub(super) async fn open(road: &Road, tls: Option<&Arc<ClientConfig>>) -> Result<Input, ConnectionError> {
    let stream: Box<dyn Stream> = match road {
        Road::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(ConnectionError::Connect)?),
        Road::Tcp { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(ConnectionError::Connect)?;
            stream.set_nodelay(true).map_err(ConnectionError::Connect)?;
            match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = ServerName::try_from(host.clone());
                    let name = name.map_err(|error| ConnectionError::Tls(io::Error::other(error)))?;
                    let connector = TlsConnector::from(Arc::clone(tls));
                    Box::new(connector.connect(name, stream).await.map_err(ConnectionError::Tls)?)
                }
            }
        }
    };
    Ok(Input::new(stream))
}

/// Sends a request without a body, and reads the head of the answer.
pub(super) async fn call(input: &mut Input, request: &[u8]) -> Result<Head, ConnectionError> {
    let broken = |begun| move |error| ConnectionError::Broken(error, begun);
    input.stream.write_all(request).await.map_err(broken(Begun::No))?;
    input.stream.flush().await.map_err(broken(Begun::No))?;
    let mut interim = 0;
    loop {
        if let Some((bytes, head)) = parse(input.unread())? {
            input.take(bytes);
            match head {
                Some(head) => return Ok(head),
                None if interim == INTERIM_MAX => {
                    return Err(ConnectionError::Malformed("it never comes to an answer"));
                }
                None => interim += 1,
            }
            continue;
        }
        if input.is_full() {
            return Err(ConnectionError::Malformed("the head of the answer is too long"));
        }
        let begun = if input.unread().is_empty() { Begun::No } else { Begun::Yes };
        if !input.fill().await.map_err(broken(begun))? {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before the answer");
            return Err(ConnectionError::Broken(ended, begun));
        }
    }
}

/// The head that these bytes begin with, and how long it is: none where it is not all there; no head where it is an interim one.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<Head>)>, ConnectionError> {
    let malformed = |what| Err(ConnectionError::Malformed(what));
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return malformed("the head of the answer has too many lines"),
        Err(_) => return malformed("it is not HTTP/1.1"),
    };
    let status = response.code.unwrap_or_default();
    if status == 101 {
        return malformed("it changes the protocol");
    }
    if (100..200).contains(&status) {
        return Ok(Some((length, None)));
    }
    let is_1_1 = response.version == Some(1);
    let headers: Vec<_> = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()))
        .collect();
    let values =
        |wanted: &'static str| headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let is_close =
        values("connection").flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case("close"));
    let mut lengths = values("content-length");
    let framing = match (values("transfer-encoding").next(), lengths.next()) {
        _ if matches!(status, 204 | 304) => Framing::Ended,
        (Some(_), Some(_)) => return malformed("it says twice how long the answer is"),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked(Chunk::Size),
        (Some(_), None) => return malformed("the answer is coded in an unknown way"),
        (None, Some(given)) => match crate::decimal::parse(given) {
            Some(length) if lengths.all(|other| other == given) => Framing::Length(length),
            _ => return malformed("the length of the answer is none"),
        },
        (None, None) => Framing::UntilClose,
    };
    let is_gzip = match values("content-encoding").collect::<Vec<_>>()[..] {
        [] | ["identity"] => false,
        ["gzip"] => true,
        _ => return malformed("the answer is compressed in an unknown way"),
    };
    let is_kept = is_1_1 && !is_close && framing != Framing::UntilClose;
    Ok(Some((length, Some(Head { status, body: Body::new(framing, is_gzip), headers, is_kept }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(head: &str) -> &'static str {
        match parse(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes()) {
            Err(ConnectionError::Malformed(what)) => what,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{head} is taken"),
        }
    }

    #[test]
    fn a_head_that_says_two_things_of_its_body_is_refused() {
        for head in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Content-Encoding: br\r\n",
            "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
        ] {
            refusal(head);
        }
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(refusal(&many), "the head of the answer has too many lines");
        assert!(matches!(parse(b"SSH-2.0-x\r\n"), Err(ConnectionError::Malformed(_))));
        assert!(matches!(parse(b"HTTP/1.1 101 x\r\n\r\n"), Err(ConnectionError::Malformed(_))));
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: W/\"x\"\r\n\r\nabc";
        for end in 0..head.len() - 3 {
            assert!(matches!(parse(&head[..end]), Ok(None)), "{end}");
        }
        let Ok(Some((length, Some(read)))) = parse(head) else { panic!("it is whole") };
        assert_eq!((length, read.status, read.is_kept), (head.len() - 3, 200, true));
        assert_eq!(read.headers[1], ("etag".to_owned(), "W/\"x\"".to_owned()));
        let kept = |head: &str| match parse(head.as_bytes()) {
            Ok(Some((_, Some(head)))) => head.is_kept,
            _ => panic!("{head}"),
        };
        assert!(kept("HTTP/1.1 304 x\r\n\r\n"));
        assert!(!kept("HTTP/1.0 304 x\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 x\r\n\r\n"), "it ends with the connection");
        assert!(!kept("HTTP/1.1 304 x\r\nConnection: x, Close\r\n\r\n"));
        assert!(matches!(parse(b"HTTP/1.1 100 Continue\r\n\r\n"), Ok(Some((25, None)))));
    }
}
