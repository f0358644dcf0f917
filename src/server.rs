//! The running agent: everything is built here and put together.
//!
//! Start: keys and self-test, ring (open intents become entries), writer, listener, workers. Stop: no new calls, open ones get
//! their time, then the writer stores what is queued.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{App, web};
use uuid::Uuid;

use crate::api::{self, AppState, OpenCalls};
use crate::audit::ring::{Ring, RingError, RingOptions};
use crate::audit::{Auditing, Durabilities, Durability, Reader, Writer, WriterOptions, WriterThread, audit};
use crate::auth::{TimeFloor, authenticate};
use crate::config::{ClassConfig, Config};
use crate::host::{Changes, Host, HostError, Paths, Users, clock};
use crate::lifecycle::Lifecycle;
use crate::listener::{self, Listeners, LocalListener, LocalPeers};
use crate::operation::Operations;
use crate::reload::{PartError, ReadConfig, Reloadable, Reloader};
use crate::signals::Signals;
use crate::systemd::{self, Notifier, PassedSocket, SocketError, Sockets};

/// How often it is looked whether the newest time that has been is to be written down.
const TIME_FLOOR_PERIOD: Duration = Duration::from_mins(10);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What the configuration asks for can't be had.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A socket that was passed is where tokens could be read on their way, and nobody has allowed that.
    #[error(
        "{address}, which the service manager passed, is not a loopback address, and there is no TLS: see server.plaintext"
    )]
    Plaintext {
        /// What it is bound to.
        address: SocketAddr,
    },
    /// The system does not tell the agent of signals.
    #[error("can't listen for signals")]
    Signal(#[source] io::Error),
    /// The boot has no ID.
    #[error("can't tell one boot from another")]
    BootId(#[source] HostError),
    /// The ring can't be opened.
    #[error("can't open the audit ring")]
    Ring(#[from] RingError),
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The Unix socket can't be made.
    #[error("can't listen on the socket {}", path.display())]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// What the service manager passed can't be used.
    #[error("can't use what the service manager passed")]
    Passed(#[from] SocketError),
    /// The store failed until the end.
    #[error("{records} records could not be stored before the agent had to stop")]
    Unsaved {
        /// How many.
        records: u64,
    },
    /// The boot ID is no UUID.
    #[error("the kernel's boot ID is no UUID")]
    BootIdForm(#[source] uuid::Error),
    /// The server ended by itself.
    #[error("the server failed")]
    Serve(#[source] io::Error),
}

/// An agent that is ready to serve.
pub struct Server {
    config: Config,
    listeners: Listeners,
    local_peers: LocalPeers,
    address: SocketAddr,
    parts: Parts,
    signals: Signals,
    writer_thread: WriterThread,
}

/// What every worker shares.
#[derive(Clone)]
struct Parts {
    reloadable: Reloadable,
    time_floor: Arc<TimeFloor>,
    auditing: Auditing,
    state: web::Data<AppState>,
}

impl Server {
    /// Opens the ring and binds the address, or takes the sockets that the service manager has bound instead. When this returns,
    /// the agent can record. At SIGHUP, `read_config` gives the configuration that is to be in force then.
    pub fn start(
        config: Config,
        changes: Changes,
        sockets: Sockets,
        read_config: ReadConfig,
    ) -> Result<Self, ServerError> {
        let signals = Signals::listen().map_err(ServerError::Signal)?;
        let failed = |source| ServerError::Listen { address: config.server.listen, source };
        let mut listeners = adopt(sockets)?;
        if listeners.tcp.is_empty() {
            listeners.tcp.push(listener::bind(config.server.listen).map_err(failed)?);
        }
        if listeners.local.is_empty()
            && let Some(path) = config.server.socket.resolve(systemd::runtime_directory().as_deref())
        {
            let local =
                LocalListener::bind(&path).map_err(|source| ServerError::Socket { path: path.clone(), source })?;
            log::info!("listening on the socket {}", path.display());
            listeners.local.push(local);
        }
        listener::reserve_files(config.server.max_connections);
        let bound =
            listeners.tcp.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        if let Some(&address) = bound.iter().find(|&&address| config.refuses_plaintext_at(address)) {
            return Err(ServerError::Plaintext { address });
        }
        for address in bound.iter().filter(|address| !address.ip().is_loopback() && !config.tls.is_on()) {
            log::warn!(
                "{address} is not a loopback address, and there is no TLS: tokens can be read on their way (server.plaintext)"
            );
        }
        let address = bound[0];
        let time_floor = Arc::new(TimeFloor::open(&config.state_dir));
        let reloadable = Reloadable::new(&config, describe, &time_floor)?;
        let reloader =
            Reloader::new(read_config, describe, config.clone(), reloadable.clone(), Arc::clone(&time_floor));
        let reloader = Arc::new(reloader);

        let paths = Paths::new(&config.host.root);
        let local_peers = local_peers(&config);
        let ring_options = ring_options(&config)?;
        let ring = Ring::open(&ring_options)?;
        let reader = Arc::new(Reader::new(&ring_options.state_dir, ring.gate()));
        let (writer, writer_thread) = Writer::start(ring, writer_options(&config))?;

        let endpoints = api::endpoints();
        let base_path = &config.server.base_path;
        let auditing = Auditing {
            writer: writer.clone(),
            operations: Operations::new(base_path, endpoints.iter().map(|endpoint| endpoint.operation)),
            on_store_failure: config.audit.on_store_failure,
            handler_timeout: Duration::from_secs(config.server.handler_timeout_s),
            answer: api::answer,
        };
        let state = AppState {
            host: Host::new(paths, changes),
            reader,
            writer,
            ring: ring_options,
            handler_timeout: Duration::from_secs(config.server.handler_timeout_s),
            authenticator: reloadable.authenticator.clone(),
            open_calls: OpenCalls::new(config.server.max_streams),
            stream_max: Duration::from_secs(config.server.stream_max_s),
            openapi: reloadable.openapi.clone(),
            reloader,
        };
        let parts = Parts { reloadable, time_floor, auditing, state: web::Data::new(state) };
        Ok(Self { config, listeners, local_peers, address, parts, signals, writer_thread })
    }

    /// The address that it listens on; the first of several.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process is told to stop by SIGTERM or SIGINT, and tells the service manager how it is.
    pub fn run(self, notifier: Notifier) -> Result<(), ServerError> {
        let Self { config, mut listeners, local_peers, address, parts, signals, writer_thread } = self;
        // The workers' threads end when they like, or not at all: what they hold may never be dropped.
        let socket_files: Vec<_> = listeners.local.iter_mut().filter_map(LocalListener::take_file).collect();
        let at = format!("{address}{}", config.server.base_path);
        let lifecycle = Lifecycle::new(notifier, at, parts.state.writer.clone());
        let time_floor = Arc::clone(&parts.time_floor);
        let served =
            actix_web::rt::System::new().block_on(serve(&config, (listeners, local_peers), parts, signals, lifecycle));
        drop(socket_files);
        time_floor.keep_at_end();
        let stored = writer_thread.stop();
        served.map_err(ServerError::Serve)?;
        stored.map_err(|records| ServerError::Unsaved { records })
    }
}

async fn serve(
    config: &Config,
    (listeners, local_peers): (Listeners, LocalPeers),
    parts: Parts,
    signals: Signals,
    lifecycle: Lifecycle,
) -> io::Result<()> {
    let (base_path, max_body_bytes) = (config.server.base_path.clone(), config.server.max_body_bytes);
    let time_floor = Arc::clone(&parts.time_floor);
    let (writer, reloader) = (parts.state.writer.clone(), Arc::clone(&parts.state.reloader));
    let tls = parts.reloadable.tls.clone();
    let worker = lifecycle.clone();
    let app = move || {
        worker.watch_worker();
        let Parts { reloadable, auditing, state, .. } = parts.clone();
        let Reloadable { authenticator, admission, .. } = reloadable;
        let (authenticator, admission, auditing) = (authenticator.held(), admission.held(), Rc::new(auditing));
        App::new().app_data(state).configure(|app| api::mount(app, &base_path, max_body_bytes)).wrap(from_fn(
            move |request, next| {
                let caller = authenticate(&authenticator, &admission, &request);
                audit(Rc::clone(&auditing), caller, request, next)
            },
        ))
    };
    let server = listener::serve(listeners, &config.server, local_peers, tls, writer.clone(), app)?;
    actix_web::rt::spawn(keep_time(time_floor));
    lifecycle.begin(signals, reloader, &server.handle());
    let ended = server.await;
    // The workers say that they are done before they have given up the calls that took too long, each of which becomes an entry then.
    let open = writer.await_open_calls().await;
    if open > 0 {
        log::warn!("{open} calls are not on stable storage yet, or were never given up");
    }
    ended
}

/// Has the newest time that has been written down now and then.
async fn keep_time(time_floor: Arc<TimeFloor>) {
    let mut turns = tokio::time::interval(TIME_FLOOR_PERIOD);
    loop {
        turns.tick().await;
        let time_floor = Arc::clone(&time_floor);
        let _ = tokio::task::spawn_blocking(move || time_floor.keep()).await;
    }
}

/// What the service manager has bound for the agent.
fn adopt(sockets: Sockets) -> Result<Listeners, ServerError> {
    let mut listeners = Listeners::default();
    for socket in sockets {
        let name = socket.name.clone();
        match socket.into_tcp().map_err(PassedSocket::into_unix) {
            Ok(listener) => {
                let refused = |source| SocketError::Refused { name, source };
                listeners.tcp.push(listener::adopt(listener).map_err(refused)?);
            }
            Err(Ok(listener)) => listeners.local.push(LocalListener::adopt(listener)),
            Err(Err(socket)) => return Err(SocketError::Kind { name: socket.name }.into()),
        }
    }
    Ok(listeners)
}

/// The OpenAPI document, which tells what needs no token.
fn describe(config: &Config) -> String {
    let anonymous = config.auth.anonymous_permissions.iter().copied().collect();
    api::document(&api::endpoints(), &config.server.base_path, anonymous)
}

/// Who may do what through the Unix socket.
fn local_peers(config: &Config) -> LocalPeers {
    let users = Users::new(Paths::new(&config.host.root));
    let group = Some(config.server.socket_group.clone()).filter(|group| !group.is_empty());
    if let Some(group) = &group
        && !users.gid_of(group).is_ok_and(|found| found.is_some())
    {
        log::warn!("there is no group {group} (server.socket_group): without a token, root alone may read the audit");
    }
    if group.is_some() && !users.are_told_apart().unwrap_or(true) {
        log::warn!(
            "in this user namespace (PrivateUsers= of the unit) users can't be told apart: server.socket_group lets nobody in, \
             root alone may read the audit without a token"
        );
    }
    LocalPeers::new(users, group)
}

fn ring_options(config: &Config) -> Result<RingOptions, ServerError> {
    let paths = Paths::new(&config.host.root);
    let boot_id = clock::boot_id(&paths).map_err(ServerError::BootId)?;
    let audit = &config.audit;
    Ok(RingOptions {
        state_dir: config.state_dir.clone(),
        max_entries: audit.max_entries,
        max_bytes: audit.max_bytes,
        guarantee_percent: [&audit.change, &audit.read, &audit.denied].map(|class| class.guarantee.into()),
        boot_id: Uuid::try_parse(&boot_id).map_err(ServerError::BootIdForm)?,
        started_ms: clock::wall_clock_ms(),
    })
}

fn writer_options(config: &Config) -> WriterOptions {
    let audit = &config.audit;
    let of =
        |class: &ClassConfig| -> (Durability, Duration) { (class.durability, Duration::from_millis(class.window_ms)) };
    WriterOptions {
        durabilities: Durabilities([of(&audit.change), of(&audit.read), of(&audit.denied)]),
        max_pending: audit.max_pending,
        denied_entries: audit.denied_entries,
    }
}
