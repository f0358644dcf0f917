//! Where calls come in: the socket, the connections, HTTP/1.1 on them.
//!
//! Every connection is watched, and every request is claimed around the whole application, so that no order of middlewares and no
//! route can bypass the audit.

mod answer;
mod channel;
mod door;
mod headers;
mod local;
mod peers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::PayloadError;
use actix_http::header::UPGRADE;
use actix_http::{ConnectionType, HttpService, KeepAlive, Method, Payload, Request, RequestHead, Response};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Service as _};
use actix_web::rt::net::{TcpStream, UnixStream};
use futures_util::{FutureExt as _, TryStreamExt as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

use crate::audit::connection::{Body, PeerDeadlines, Watch, Watched};
use crate::audit::{CONCURRENT_READERS, Writer};
use crate::config::ServerConfig;
use crate::host;
use crate::live::Live;
use crate::tls::{self, Tls};
use answer::Answer;
use channel::Channel;
use door::{DISCONNECT_TIMEOUT, Door};
pub(crate) use local::{LocalListener, LocalPeers};

/// What the kernel holds back of an answer for a peer that is slow to read. With more, it would say too late that the peer reads on.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// What waits for storage waits on so many threads a worker. Readers of the ring and work on the node have places of their own, which
/// all workers share; a worker that has a thread for each of them never has a read of the ring wait behind a disk that hangs. Each
/// thread keeps memory, and ends when it has had nothing to do for 10 s: there are as many as places are taken, not as many as may be.
const BLOCKING_THREADS: usize = CONCURRENT_READERS + host::BLOCKING_THREADS_MAX;

/// Files beside the connections: the ring, its readers, sockets of the runtime, a child process' pipes.
const OTHER_FILES: u64 = 128;

/// Binds the address. Connections queue from now on, before the agent serves them.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEADDR is set by std, so that a restart does not wait for old connections.
    adopt(TcpListener::bind(address)?)
}

/// Makes a listener that was bound elsewhere like one of [`bind`].
pub(crate) fn adopt(listener: TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Its connections have it from the listener.
    setsockopt(&listener, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
    Ok(listener)
}

/// Has the kernel give the process as many files as its connections need: the soft limit is 1024 unless someone has raised it.
pub(crate) fn reserve_files(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) }
    });
    let has = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    if raised.is_err() || has < wanted {
        log::warn!("server.max_connections is {connections}, but the process may open {has} files only (LimitNOFILE=)");
    }
}

/// What connections come through.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) local: Vec<LocalListener>,
}

/// Serves `app` on all listeners, with `tls` over that or nothing else, until its handle is told to stop; then open calls get
/// their time.
pub(crate) fn serve<F, I, S>(
    listeners: Listeners,
    limits: &ServerConfig,
    local_peers: LocalPeers,
    tls: Option<Live<Tls>>,
    writer: Writer,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Clone + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<BoxBody>> + 'static,
{
    let workers = match limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let mut server = Server::build()
        .workers(workers)
        .disable_signals()
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_concurrent_connections(limits.max_connections.div_ceil(workers))
        .shutdown_timeout(limits.shutdown_timeout_s);
    let stopping = server.graceful_shutdown_signal();
    let (is_stopping, waited_on) = (stopping.clone(), writer.clone());
    actix_web::rt::spawn(async move {
        is_stopping.notified().await;
        waited_on.end_waiting();
    });
    let keep_alive = KeepAlive::Timeout(Duration::from_secs(limits.keep_alive_s));
    let head_timeout = Duration::from_millis(limits.client_timeout_ms);
    let deadlines = PeerDeadlines {
        // The library's own timer, which answers, comes first.
        head: head_timeout * 2,
        body: Duration::from_millis(limits.body_timeout_ms),
        idle: Duration::from_secs(limits.keep_alive_s) + head_timeout,
    };
    let write_timeout = Duration::from_millis(limits.write_timeout_ms);
    let door = Arc::new(Door::new(limits.max_connections_per_peer, local_peers, deadlines, write_timeout, tls, writer));
    let http = |address: SocketAddr| {
        let (stopping, app) = (stopping.clone(), app.clone());
        move || {
            let stopping = stopping.clone();
            let app = app().into_factory();
            let app = map_config(app, |()| AppConfig::default());
            let claimed = apply_fn_factory(app, |mut request: Request, app| {
                let watch = claim(&mut request);
                let ends = request.head().upgrade() || is_tunnel(request.head());
                // Without an `async` block, which would hold the whole way through the application twice.
                app.call(request).map(move |answer| {
                    let mut response: Response<BoxBody> =
                        answer.map_or_else(|error: Error| error.error_response().into(), S::Response::into);
                    headers::secure(response.headers_mut());
                    if ends {
                        // Nothing is upgraded to, and the library reads no other request: who keeps the connection must know.
                        response.head_mut().set_connection_type(ConnectionType::Close);
                    }
                    Ok::<_, Error>(response.map_body(|_, body| Answer::new(body, watch)))
                })
            });
            HttpService::build()
                .keep_alive(keep_alive)
                .client_request_timeout(head_timeout)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|stream: &Watched<Channel>, data| {
                    data.insert(stream.watch());
                    match stream.stream() {
                        Channel::Tls(stream) => tls::shown(stream).map(|certificate| drop(data.insert(certificate))),
                        Channel::Plain(stream) => stream.local_peer().map(|peer| drop(data.insert(peer.clone()))),
                    };
                })
                .local_addr(address)
                .finish::<_, Answer>(claimed)
        }
    };
    for listener in listeners.tcp {
        let address = listener.local_addr()?;
        let (door, http) = (Arc::clone(&door), http(address));
        server = server.listen(address.to_string(), listener, move || {
            let door = Arc::clone(&door);
            fn_service(move |stream: TcpStream| Arc::clone(&door).enter(stream)).and_then(http())
        })?;
    }
    for listener in listeners.local {
        let (door, http) = (Arc::clone(&door), http((Ipv4Addr::LOCALHOST, 0).into()));
        server = server.listen_uds("unix", listener.into_listener(), move || {
            let door = Arc::clone(&door);
            fn_service(move |stream: UnixStream| Arc::clone(&door).enter_locally(stream)).and_then(http())
        })?;
    }
    Ok(server.run())
}

/// Whether the library takes all that follows for the body, whatever length the head tells.
fn is_tunnel(head: &RequestHead) -> bool {
    let upgrade = head.headers.get(UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    head.method == Method::CONNECT || upgrade.is_some_and(|upgrade| upgrade.trim().eq_ignore_ascii_case("websocket"))
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
