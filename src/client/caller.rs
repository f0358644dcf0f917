//! Who calls one agent, over one connection at a time.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::answer::Answer;
use super::body::BodyError;
use super::connection::{self, Begun, ConnectionError, Head};
use super::error::{ClientError, Problem};
use super::input::Input;
use super::secret::Secret;
use super::target::Target;
use super::trust::Trust;
use crate::tls::TlsError;

/// Bytes of the body of an error.
const PROBLEM_MAX_BYTES: usize = 64 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until a connection stands, its handshake included.
    pub connect: Duration,
    /// Until the answer begins; what the agent was asked to wait comes on top.
    pub head: Duration,
    /// Until the next piece of an answer that is streamed.
    pub piece: Duration,
    /// For the body of an answer that is taken whole.
    pub whole: Duration,
}

impl Limits {
    /// For a network as nodes have it.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(10),
        head: Duration::from_secs(30),
        piece: Duration::from_secs(30),
        whole: Duration::from_mins(1),
    };
}

/// Who calls an agent.
pub struct Caller {
    pub(super) target: Target,
    tls: Option<Arc<ClientConfig>>,
    secret: Option<Secret>,
    pub(super) limits: Limits,
    /// A connection on which nothing is under way.
    pub(super) idle: Option<Input>,
}

impl Caller {
    /// Someone who shows this token, if any, and has not called yet.
    pub fn new(target: Target, trust: &Trust, secret: Option<Secret>, limits: Limits) -> Result<Self, TlsError> {
        let tls = if target.is_tls() { Some(trust.load()?) } else { None };
        Ok(Self { target, tls, secret, limits, idle: None })
    }

    /// Whom is called.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// An error that says that what came is not what an agent says.
    pub fn foreign(&self, what: impl Into<String>) -> ClientError {
        ClientError::Foreign { target: self.target.to_string(), what: what.into() }
    }

    /// Reads what lies at a path below the agent's base path, its query included. Gives answers with 200 or 304; all others are
    /// errors. The agent may take `patience` longer than usual.
    pub async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Answer<'_>, ClientError> {
        let request = self.request(path, headers);
        let idle = self.idle.take();
        let (input, head) = self.exchange(idle, &request, patience).await?;
        let answer = Answer { input: Some(input), head, caller: self };
        if matches!(answer.status(), 200 | 304) { Ok(answer) } else { Err(refused(answer).await) }
    }

    /// Sends a request, over a connection that is there or a new one, until the answer begins.
    async fn exchange(
        &self,
        idle: Option<Input>,
        request: &[u8],
        patience: Duration,
    ) -> Result<(Input, Head), ClientError> {
        if let Some(mut input) = idle {
            match self.call(&mut input, request, patience).await? {
                Ok(head) => return Ok((input, head)),
                // The agent may end a connection whenever nothing is under way on it, and a reading may be asked for again.
                Err(ConnectionError::Broken(_, Begun::No)) => {}
                Err(error) => return Err(self.error(error)),
            }
        }
        let limit = self.limits.connect;
        let opened = timeout(limit, connection::open(&self.target.road, self.tls.as_ref())).await;
        let opened = opened.map_err(|_| self.late("connecting", limit))?;
        let mut input = opened.map_err(|error| self.error(error))?;
        let head = self.call(&mut input, request, patience).await?.map_err(|error| self.error(error))?;
        Ok((input, head))
    }

    async fn call(
        &self,
        input: &mut Input,
        request: &[u8],
        patience: Duration,
    ) -> Result<Result<Head, ConnectionError>, ClientError> {
        let limit = self.limits.head + patience;
        timeout(limit, connection::call(input, request)).await.map_err(|_| self.late("the answer", limit))
    }

    fn request(&self, path: &str, headers: &[(&str, &str)]) -> zeroize::Zeroizing<Vec<u8>> {
        let (base_path, host) = (&self.target.base_path, self.target.host());
        let version = env!("CARGO_PKG_VERSION");
        let mut head = format!("GET {base_path}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nodeaudit/{version}\r\n");
        head.push_str("Accept-Encoding: gzip\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("writing to a String does not fail");
        }
        // Last, and with room: what grows leaves copies behind.
        let secret = self.secret.as_ref().map_or("", Secret::as_str);
        let mut request = zeroize::Zeroizing::new(Vec::with_capacity(head.len() + secret.len() + 64));
        request.extend_from_slice(head.as_bytes());
        if self.secret.is_some() {
            for part in ["Authorization: Bearer ", secret, "\r\n"] {
                request.extend_from_slice(part.as_bytes());
            }
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    fn late(&self, what: &'static str, limit: Duration) -> ClientError {
        ClientError::Late { target: self.target.to_string(), what, limit }
    }

    fn error(&self, error: ConnectionError) -> ClientError {
        let target = self.target.to_string();
        match error {
            ConnectionError::Connect(source) => ClientError::Unreachable { target, source },
            ConnectionError::Tls(source) => ClientError::Tls { target, source },
            ConnectionError::Broken(source, _) => broken(target, source),
            ConnectionError::Malformed(what) => self.foreign(what),
        }
    }
}

/// What a body that can't be read on means.
pub(super) fn malformed(target: &Target, error: BodyError) -> ClientError {
    let target = target.to_string();
    match error {
        BodyError::Io(source) => broken(target, source),
        BodyError::Malformed(what) => ClientError::Foreign { target, what: what.to_owned() },
    }
}

/// A certificate that the agent does not take is told by it in the middle of the first answer.
fn broken(target: String, source: std::io::Error) -> ClientError {
    let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
    let is_tls = inner.is_some();
    if is_tls { ClientError::Tls { target, source } } else { ClientError::Broken { target, source } }
}

async fn refused(answer: Answer<'_>) -> ClientError {
    let (target, status) = (answer.caller.target.to_string(), answer.status());
    let retry_after_s = answer.header("retry-after").and_then(crate::decimal::parse);
    // What can't be read of the reason does not change that it is refused.
    let body = answer.whole(PROBLEM_MAX_BYTES, "an error").await.unwrap_or_default();
    ClientError::Refused { target, problem: Problem::new(status, &body, retry_after_s) }
}
