//! A small HTTP/1.1 client (RFC 9112) that can also send what no proper client would.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::tls::TlsClient;

/// A request as it is to be sent.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        body.as_ref().clone_into(&mut self.body);
        self
    }

    /// Head and body.
    pub(crate) fn whole(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }

    /// The head, with the length of a body if there is one.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: node\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if !self.body.is_empty() {
            head.extend(format!("Content-Length: {}\r\n", self.body.len()).into_bytes());
        }
        head.extend(b"\r\n");
        head
    }
}

/// A response as it came.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Response {
    /// The body as a text, which is what whoever reads of a failure needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body } = self;
        write!(f, "{status} {headers:?} {:?}", String::from_utf8_lossy(body))
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The ID of the entry of the call. There is no response without one.
    pub(crate) fn audit_id(&self) -> &str {
        self.header("Audit-Id").unwrap_or_else(|| panic!("no Audit-Id: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Checks the body that every error has, and gives its details.
#[track_caller]
pub(crate) fn assert_is_error(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let body = response.json();
    let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["code", "details", "error"], "{body}");
    assert_eq!(body["code"], status);
    assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}");
    body["details"].as_str().unwrap().to_owned()
}

/// A connection that is kept alive from call to call.
pub(crate) struct Connection(BufReader<Stream>);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// Over TLS.
    pub(crate) fn open_tls(address: SocketAddr, client: &TlsClient) -> Self {
        let Stream::Plain(socket) = Self::open(address).0.into_inner() else { unreachable!() };
        Self(BufReader::new(Stream::Tls(Box::new(client.over(socket)))))
    }

    /// The same where the agent may be gone.
    pub(crate) fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Only a broken agent is that slow: a test must end all the same.
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(Stream::Plain(stream))))
    }

    pub(crate) fn call(&mut self, request: &Request) -> Response {
        self.send(&request.whole());
        self.receive(&request.method)
    }

    /// The same where the agent may go away at any moment. What it gives was received to its end.
    pub(crate) fn try_call(&mut self, request: &Request) -> io::Result<Response> {
        self.0.get_mut().write_all(&request.whole())?;
        self.try_receive(&request.method)
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Goes away without a farewell, as a client does that crashes.
    pub(crate) fn reset(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(self.0.get_ref().socket(), sockopt::Linger, &at_once).unwrap();
    }

    /// Says that nothing more comes, and still listens.
    pub(crate) fn close_sending_side(&self) {
        self.0.get_ref().socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the response to a request with that method.
    pub(crate) fn receive(&mut self, method: &str) -> Response {
        self.try_receive(method).unwrap()
    }

    /// Reads the head of a response alone.
    pub(crate) fn receive_head(&mut self) -> Response {
        self.try_receive("HEAD").unwrap()
    }

    /// Reads the next chunk of a body; none after the last one. An error: the body is not whole.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line()?, 16).unwrap();
        let chunk = self.bytes(length)?;
        self.line()?;
        Ok((length > 0).then_some(chunk))
    }

    fn try_receive(&mut self, method: &str) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).unwrap_or_else(|| panic!("{status_line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if method != "HEAD" {
            response.body = self.body(&response)?;
        }
        Ok(response)
    }

    fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.header("Transfer-Encoding").is_none() {
            let length = response.header("Content-Length").map_or(0, |length| length.parse().unwrap());
            return self.bytes(length);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    pub(super) fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A line without its end. One that the end of the connection cut off is none.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent closed the connection")),
        }
    }
}
