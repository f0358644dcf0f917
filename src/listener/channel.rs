//! What a peer is heard through: its socket, or TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::peers::PeerPlace;
use crate::auth::LocalPeer;

/// What a peer has connected to.
pub(super) enum Socket {
    /// The network's.
    Tcp(TcpStream),
    /// The node's own, and the process at its other end.
    Unix(UnixStream, LocalPeer),
}

/// A peer's socket, and its place among those that the peer has. Ends when the peer does not take what is written to it: here, below
/// TLS, because only here it is seen whether anything leaves.
pub(super) struct PeerStream {
    socket: Socket,
    _place: PeerPlace,
    write_timeout: Duration,
    /// There only while the peer does not read.
    write_alarm: Option<Pin<Box<Sleep>>>,
}

impl PeerStream {
    /// The socket has this place, and the peer so long to take some of what is written.
    pub(super) const fn new(socket: Socket, place: PeerPlace, write_timeout: Duration) -> Self {
        Self { socket, _place: place, write_timeout, write_alarm: None }
    }

    /// The process at the other end, where it is one of this node.
    pub(super) const fn local_peer(&self) -> Option<&LocalPeer> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(_, peer) => Some(peer),
        }
    }

    /// Puts the first bytes that the peer sends into `buffer` and leaves them to be read.
    pub(super) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.peek(buffer).await,
            Socket::Unix(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(written) = Pin::new(&mut this.socket).poll_write(context, bytes) {
            this.write_alarm = None;
            return Poll::Ready(written);
        }
        let deadline = this.write_timeout;
        let alarm = this.write_alarm.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + deadline)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// What requests are read from and answers are written to.
pub(super) enum Channel {
    /// The socket itself.
    Plain(PeerStream),
    /// TLS over it.
    Tls(Box<TlsStream<PeerStream>>),
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
