//! Where calls come in: the socket, the connections, HTTP/1.1 on them.
//!
//! Every connection is watched, and every request is claimed around the whole application, so that no order of middlewares and no
//! route can bypass the audit.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Payload, Protocol, Request, Response};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Service as _};
use actix_web::rt::net::TcpStream;
use actix_web::rt::signal::unix::{SignalKind, signal};

use crate::audit::Writer;
use crate::audit::connection::{Body, Watch, Watched};
use crate::config::ServerConfig;

/// The longest that a connection may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds the address. Connections queue from now on, before the agent serves them.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEADDR is set by std, so that a restart does not wait for old connections.
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `app` on `listener` until the process is told to stop by SIGTERM, SIGINT or SIGHUP; then open calls get their time.
pub(crate) async fn serve<F, I, S, B>(
    listener: TcpListener,
    limits: &ServerConfig,
    writer: Writer,
    app: F,
) -> io::Result<()>
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
    let factory = move || {
        let stopping = stopping.clone();
        let writer = writer.clone();
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = map_config(app, |()| AppConfig::default());
        let claimed = apply_fn_factory(app, |mut request: Request, app| {
            let watch = claim(&mut request);
            let answer = app.call(request);
            async move {
                let answer = answer.await;
                if let Some(watch) = watch {
                    watch.answered();
                }
                answer
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
            .on_connect_ext(|stream: &Watched<TcpStream>, data| {
                data.insert(stream.watch());
            })
            .local_addr(address)
            .finish::<_, B>(claimed);
        fn_service(move |stream: TcpStream| watched(stream, head_timeout, writer.clone())).and_then(http)
    };
    let server = server.listen("http", listener, factory)?.run();
    // A terminal that is closed stops the agent as Ctrl-C does.
    let (handle, mut hangup) = (server.handle(), signal(SignalKind::hangup())?);
    actix_web::rt::spawn(async move {
        if hangup.recv().await.is_some() {
            log::info!("SIGHUP received; stopping");
            handle.stop(true).await;
        }
    });
    server.await
}

/// What the HTTP service takes: a stream, its protocol, its peer.
type Connection = (Watched<TcpStream>, Protocol, Option<SocketAddr>);

fn watched(
    stream: TcpStream,
    head_timeout: Duration,
    writer: Writer,
) -> Ready<Result<Connection, actix_http::error::DispatchError>> {
    // Responses are small and written whole: waiting for more to send only delays them. A socket that refuses works all the same.
    let _ = stream.set_nodelay(true);
    ready(stream.peer_addr().map_err(Into::into).map(|peer| {
        let source_ip = peer.ip().to_canonical();
        // The library's own timer, which answers, comes first.
        (Watched::new(stream, source_ip, head_timeout * 2, writer), Protocol::Http1, Some(peer))
    }))
}

fn claim(request: &mut Request) -> Option<Rc<Watch>> {
    let body = if matches!(request.payload(), Payload::None) { Body::None } else { Body::Follows };
    let watch = request.conn_data::<Rc<Watch>>().map(Rc::clone)?;
    watch.claim(body);
    Some(watch)
}
