//! Where connections come in: who may have one, and the TLS handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::Protocol;
use actix_http::error::DispatchError;
use actix_web::rt::net::{TcpStream, UnixStream};
use futures_util::FutureExt as _;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::SEND_BUFFER_BYTES;
use super::channel::{Channel, PeerStream, Socket};
use super::headers::SECURITY_LINES;
use super::local::LocalPeers;
use super::peers::Peers;
use crate::audit::Writer;
use crate::audit::connection::{Origin, PeerDeadlines, Unserved, Watched, record_unserved};
use crate::auth::{LocalPeer, PermissionSet};
use crate::live::Live;
use crate::tls::{Refused, Tls};

/// The longest that a connection may take to close.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// So many refused peers are waited for at a time.
const REFUSED_AT_ONCE: usize = 16;

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// So much is read of what is not TLS, to tell what was asked for.
const PLAIN_BYTES: usize = 1024;

/// What is said to a peer with as many connections as it may have.
const CROWD: &str = "429 Too Many Requests";
const COME_BACK: &str = "Retry-After: 1\r\n";

/// What the HTTP service takes: a stream, its protocol, its peer.
type Connection = (Watched<Channel>, Protocol, Option<SocketAddr>);

/// Where connections come in.
pub(super) struct Door {
    peers: Peers,
    local_peers: LocalPeers,
    deadlines: PeerDeadlines,
    write_timeout: Duration,
    tls: Option<Live<Tls>>,
    /// Those that are refused and may take their time to hear it.
    refusing: Arc<Semaphore>,
    writer: Writer,
}

impl Door {
    /// Peers may have so many connections each, and take so long; connections that are refused are recorded with `writer`.
    pub(super) fn new(
        max_per_peer: usize,
        local_peers: LocalPeers,
        deadlines: PeerDeadlines,
        write_timeout: Duration,
        tls: Option<Live<Tls>>,
        writer: Writer,
    ) -> Self {
        let refusing = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
        Self { peers: Peers::new(max_per_peer), local_peers, deadlines, write_timeout, tls, refusing, writer }
    }

    /// Has a connection watched, or refuses it. Each connection has room for this twice for as long as it lives: what is not there for
    /// every one of them is in a box, gone when it is done.
    pub(super) async fn enter(self: Arc<Self>, stream: TcpStream) -> Result<Connection, DispatchError> {
        // A peer that has gone already has no address any more; what it sent can be read all the same.
        let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let source_ip = peer.ip().to_canonical();
        let Some(place) = self.peers.admit(source_ip) else {
            if self.tls.is_none() {
                Box::pin(self.turn_away(stream, &source_ip.into())).await;
            } else {
                // Nobody could read an answer before a handshake, which is just what is not to be paid for.
                let why = Unserved::Handshake("the peer has as many connections as it may have");
                record_unserved(&self.writer, &source_ip.into(), Duration::ZERO, why);
            }
            return Err(refused());
        };
        // Responses are small and written whole: waiting for more to send only delays them. A socket that refuses works all the same.
        let _ = stream.set_nodelay(true);
        let stream = PeerStream::new(Socket::Tcp(stream), place, self.write_timeout);
        let channel = match self.tls.as_ref().map(Live::get) {
            Some(tls) => Box::pin(self.shake_hands(&tls, stream, source_ip)).await.ok_or_else(refused)?,
            None => Channel::Plain(stream),
        };
        let watched =
            Watched::new(channel, source_ip.into(), self.deadlines, self.writer.clone(), SECURITY_LINES.as_bytes());
        Ok((watched, Protocol::Http1, Some(peer)))
    }

    /// The same for a process of this node. Whom nothing is known of, because the node's files can't be read, is refused.
    pub(super) async fn enter_locally(self: Arc<Self>, stream: UnixStream) -> Result<Connection, DispatchError> {
        let peers = self.local_peers.clone();
        let identified = tokio::task::spawn_blocking(move || peers.identify(&stream).map(|peer| (stream, peer))).await;
        let (stream, peer) = identified.map_err(io::Error::other).flatten().map_err(|error| {
            log::error!("a process has connected, and whose it is can't be told: {error}");
            DispatchError::Io(error)
        })?;
        let origin = origin_of(&peer);
        let Some(place) = self.peers.admit(peer.counted()) else {
            Box::pin(self.turn_away(stream, &origin)).await;
            return Err(refused());
        };
        // As a TCP socket has it from its listener. A socket that refuses works all the same.
        let _ = setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER_BYTES);
        let channel = Channel::Plain(PeerStream::new(Socket::Unix(stream, peer), place, self.write_timeout));
        let watched = Watched::new(channel, origin, self.deadlines, self.writer.clone(), SECURITY_LINES.as_bytes());
        Ok((watched, Protocol::Http1, None))
    }

    /// Records a connection beyond those that a peer may have, and tells the peer.
    async fn turn_away(&self, stream: impl AsyncRead + AsyncWrite + Unpin, origin: &Origin) {
        record_unserved(&self.writer, origin, Duration::ZERO, Unserved::Answered(b"", 429));
        self.say(stream, CROWD, COME_BACK).await;
    }

    /// TLS over the stream. None: there is none, and what was tried is recorded. A peer that comes and goes without a byte, as those
    /// do that only look whether a port is open, has made no call.
    async fn shake_hands(&self, tls: &Tls, mut stream: PeerStream, source_ip: IpAddr) -> Option<Channel> {
        let begin = Instant::now();
        let deadline = begin + tls.timeout();
        let record = |unserved| record_unserved(&self.writer, &source_ip.into(), begin.elapsed(), unserved);
        let mut first = [0];
        match timeout_at(deadline.into(), stream.peek(&mut first)).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) if first[0] == HANDSHAKE_RECORD => {}
            Ok(Ok(_)) => {
                let mut head = [0; PLAIN_BYTES];
                let read = timeout(DISCONNECT_TIMEOUT, stream.read(&mut head)).await;
                let read = read.ok().and_then(Result::ok).unwrap_or(0);
                record(Unserved::Answered(&head[..read], 400));
                self.say(stream, "400 Bad Request", "").await;
                return None;
            }
            Err(_) => {
                record(Unserved::Handshake("no handshake in time"));
                return None;
            }
        }
        match tls.accept(stream, deadline.into()).await {
            Ok(stream) => return Some(Channel::Tls(Box::new(stream))),
            Err(Refused::Late) => record(Unserved::Handshake("no handshake in time")),
            Err(Refused::Gone) => record(Unserved::Handshake("the peer has gone")),
            Err(Refused::Failed(why)) => record(Unserved::Handshake(&why)),
        }
        None
    }

    /// Answers a peer of whom no call comes that the API could answer. One that does not read has no right to be waited for, nor have
    /// many: each has a place among all connections.
    async fn say(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, status: &str, headers: &str) {
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}Connection: close\r\n{SECURITY_LINES}\r\n");
        match self.refusing.try_acquire() {
            Ok(_turn) => drop(timeout(DISCONNECT_TIMEOUT, say_and_close(stream, answer.as_bytes())).await),
            Err(_) => drop(stream.write_all(answer.as_bytes()).now_or_never()),
        }
    }
}

/// Where the connections of a process come from.
fn origin_of(peer: &LocalPeer) -> Origin {
    Origin { address: LocalPeer::ADDRESS, actor: Some(peer.actor(PermissionSet::EMPTY)) }
}

fn refused() -> DispatchError {
    DispatchError::Io(io::ErrorKind::ConnectionRefused.into())
}

/// Says why and reads what the peer has sent: closing on unread bytes would have the kernel take the answer back.
async fn say_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}
