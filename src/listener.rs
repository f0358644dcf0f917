//! Where calls come in: the socket, the connections, HTTP/1.1 on them.
//!
//! Every connection is watched, and every request is claimed around the whole application, so that no order of middlewares and no
//! route can bypass the audit.

mod answer;
mod peers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::{DispatchError, PayloadError};
use actix_http::header::UPGRADE;
use actix_http::{HttpService, KeepAlive, Method, Payload, Protocol, Request, RequestHead, Response};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Service as _};
use actix_web::rt::net::TcpStream;
use actix_web::{Error, HttpResponse};
use futures_util::TryStreamExt as _;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::audit::Writer;
use crate::audit::connection::{Body, PeerDeadlines, Watch, Watched};
use crate::config::ServerConfig;
use answer::Answer;
use peers::{PeerStream, Peers};

/// The longest that a connection may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// So many refused peers are waited for at a time.
const REFUSED_AT_ONCE: usize = 16;

/// What the kernel holds back of an answer for a peer that is slow to read. With more, it would say too late that the peer reads on.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// What a peer is answered that has as many connections as it may. No call comes of it that the API could answer.
const TOO_MANY_CONNECTIONS: (u16, &[u8]) =
    (429, b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n");

/// Binds the address. Connections queue from now on, before the agent serves them.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEADDR is set by std, so that a restart does not wait for old connections.
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Its connections have it from the listener.
    setsockopt(&listener, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
    Ok(listener)
}

/// Serves `app` on `listener` until the process is told to stop by SIGTERM or SIGINT; then open calls get their time.
pub(crate) fn serve<F, I, S, B>(
    listener: TcpListener,
    limits: &ServerConfig,
    writer: Writer,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Clone + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let workers = match limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(limits.max_connections.div_ceil(workers))
        .shutdown_timeout(limits.shutdown_timeout_s);
    let stopping = server.graceful_shutdown_signal();
    let address = listener.local_addr()?;
    let keep_alive = KeepAlive::Timeout(Duration::from_secs(limits.keep_alive_s));
    let head_timeout = Duration::from_millis(limits.client_timeout_ms);
    let door = Door {
        peers: Peers::new(limits.max_connections_per_peer),
        deadlines: PeerDeadlines {
            // The library's own timer, which answers, comes first.
            head: head_timeout * 2,
            body: Duration::from_millis(limits.body_timeout_ms),
            write: Duration::from_millis(limits.write_timeout_ms),
            idle: Duration::from_secs(limits.keep_alive_s) + head_timeout,
        },
        refusing: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
        writer,
    };
    let factory = move || {
        let (stopping, door) = (stopping.clone(), door.clone());
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = map_config(app, |()| AppConfig::default());
        let claimed = apply_fn_factory(app, |mut request: Request, app| {
            let watch = claim(&mut request);
            let answer = app.call(request);
            async move {
                let response = match answer.await {
                    Ok(response) => response.into().map_into_boxed_body(),
                    Err(response) => response.into(),
                };
                Ok::<_, HttpResponse>(response.map_body(|_, body| Answer::new(body, watch)))
            }
        });
        let http = HttpService::build()
            .keep_alive(keep_alive)
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(|stream: &Watched<PeerStream>, data| {
                data.insert(stream.watch());
            })
            .local_addr(address)
            .finish::<_, Answer>(claimed);
        fn_service(move |stream: TcpStream| door.clone().enter(stream)).and_then(http)
    };
    Ok(server.listen("http", listener, factory)?.run())
}

/// What the HTTP service takes: a stream, its protocol, its peer.
type Connection = (Watched<PeerStream>, Protocol, Option<SocketAddr>);

/// Where connections come in.
#[derive(Clone)]
struct Door {
    peers: Peers,
    deadlines: PeerDeadlines,
    /// Those that are refused and may take their time to hear it.
    refusing: Arc<Semaphore>,
    writer: Writer,
}

impl Door {
    /// Has a connection watched, or refuses it.
    async fn enter(self, stream: TcpStream) -> Result<Connection, DispatchError> {
        // A peer that has gone already has no address any more; what it sent can be read all the same.
        let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let source_ip = peer.ip().to_canonical();
        let Some(place) = self.peers.admit(source_ip) else {
            let (code, answer) = TOO_MANY_CONNECTIONS;
            Watch::refuse(&self.writer, source_ip, code);
            // A peer that does not read has no right to be waited for, nor do many: each has a place among all connections.
            match self.refusing.try_acquire() {
                Ok(_turn) => drop(timeout(DISCONNECT_TIMEOUT, say_and_close(stream, answer)).await),
                Err(_) => drop(stream.try_write(answer)),
            }
            return Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into()));
        };
        // Responses are small and written whole: waiting for more to send only delays them. A socket that refuses works all the same.
        let _ = stream.set_nodelay(true);
        let stream = PeerStream::new(stream, place);
        Ok((Watched::new(stream, source_ip, self.deadlines, self.writer), Protocol::Http1, Some(peer)))
    }
}

/// Whether the library takes all that follows for the body, whatever length the head tells.
fn is_tunnel(head: &RequestHead) -> bool {
    let upgrade = head.headers.get(UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    head.method == Method::CONNECT || upgrade.is_some_and(|upgrade| upgrade.trim().eq_ignore_ascii_case("websocket"))
}

/// Says why and reads what the peer has sent: closing on unread bytes would have the kernel take the answer back.
async fn say_and_close(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Claims a request for the audit, and has a body that took too long told from one that the peer broke off.
fn claim(request: &mut Request) -> Option<Rc<Watch>> {
    let watch = request.conn_data::<Rc<Watch>>().map(Rc::clone)?;
    if matches!(request.payload(), Payload::None) {
        watch.claim(Body::None);
        return Some(watch);
    }
    watch.claim(if is_tunnel(request.head()) { Body::Endless } else { Body::Follows });
    let watched = Rc::clone(&watch);
    let payload = request.take_payload().map_err(move |error| match error {
        PayloadError::Incomplete(_) if watched.is_late() => PayloadError::Io(io::ErrorKind::TimedOut.into()),
        error => error,
    });
    *request.payload() = Payload::Stream { payload: Box::pin(payload) };
    Some(watch)
}
