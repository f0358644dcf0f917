//! The running agent: everything is built here and put together.
//!
//! Start: keys and self-test, ring (open intents become entries), writer, listener, workers. Stop: no new calls, open ones get
//! their time, then the writer stores what is queued.

use std::io::{self, IsTerminal as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::{App, web};
use uuid::Uuid;

use crate::api::{self, AppState};
use crate::audit::ring::{Ring, RingError, RingOptions};
use crate::audit::{Auditing, Durabilities, Durability, Reader, Writer, WriterOptions, WriterThread, audit};
use crate::auth::{TimeFloor, authenticate};
use crate::config::{ClassConfig, Config};
use crate::host::{Changes, Host, HostError, Paths, clock};
use crate::listener;
use crate::operation::Operations;
use crate::reload::{PartError, ReadConfig, Reloadable, Reloader};

/// How often it is looked whether the newest time that has been is to be written down.
const TIME_FLOOR_PERIOD: Duration = Duration::from_mins(10);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What the configuration asks for can't be had.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The system does not tell the agent of SIGHUP.
    #[error("can't wait for SIGHUP")]
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
    listener: TcpListener,
    address: SocketAddr,
    parts: Parts,
    hangup: Signal,
    writer_thread: WriterThread,
}

/// What every worker shares.
#[derive(Clone)]
struct Parts {
    reloadable: Reloadable,
    time_floor: Arc<TimeFloor>,
    auditing: web::Data<Auditing>,
    state: web::Data<AppState>,
}

impl Server {
    /// Opens the ring and binds the address. When this returns, the agent can record. At SIGHUP, `read_config` gives the
    /// configuration that is to be in force then.
    pub fn start(config: Config, changes: Changes, read_config: ReadConfig) -> Result<Self, ServerError> {
        let hangup = hangup().map_err(ServerError::Signal)?;
        let failed = |source| ServerError::Listen { address: config.server.listen, source };
        let listener = listener::bind(config.server.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listener::reserve_files(config.server.max_connections);
        if !address.ip().is_loopback() && !config.tls.is_on() {
            log::warn!(
                "{address} is not a loopback address, and there is no TLS: tokens can be read on their way (server.plaintext)"
            );
        }
        let time_floor = Arc::new(TimeFloor::open(&config.state_dir));
        let reloadable = Reloadable::new(&config, describe, &time_floor)?;
        let reloader =
            Reloader::new(read_config, describe, config.clone(), reloadable.clone(), Arc::clone(&time_floor));
        let reloader = Arc::new(reloader);

        let paths = Paths::new(&config.host.root);
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
            openapi: reloadable.openapi.clone(),
            reloader,
        };
        let parts = Parts { reloadable, time_floor, auditing: web::Data::new(auditing), state: web::Data::new(state) };
        Ok(Self { config, listener, address, parts, hangup, writer_thread })
    }

    /// The address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process is told to stop by SIGTERM or SIGINT.
    pub fn run(self) -> Result<(), ServerError> {
        let Self { config, listener, parts, hangup, writer_thread, .. } = self;
        let time_floor = Arc::clone(&parts.time_floor);
        let served = actix_web::rt::System::new().block_on(serve(&config, listener, parts, hangup));
        time_floor.keep_at_end();
        let stored = writer_thread.stop();
        served.map_err(ServerError::Serve)?;
        stored.map_err(|records| ServerError::Unsaved { records })
    }
}

async fn serve(config: &Config, listener: TcpListener, parts: Parts, hangup: Signal) -> io::Result<()> {
    let (base_path, max_body_bytes) = (config.server.base_path.clone(), config.server.max_body_bytes);
    let time_floor = Arc::clone(&parts.time_floor);
    let (writer, reloader) = (parts.state.writer.clone(), Arc::clone(&parts.state.reloader));
    let tls = parts.reloadable.tls.clone();
    let app = move || {
        let Parts { reloadable, auditing, state, .. } = parts.clone();
        App::new()
            .app_data(web::Data::new(reloadable.authenticator))
            .app_data(web::Data::new(reloadable.admission))
            .app_data(auditing)
            .app_data(state)
            .configure(|app| api::mount(app, &base_path, max_body_bytes))
            // The last one wrapped runs first.
            .wrap(from_fn(audit))
            .wrap(from_fn(authenticate))
    };
    let server = listener::serve(listener, &config.server, tls, writer, app)?;
    actix_web::rt::spawn(keep_time(time_floor));
    actix_web::rt::spawn(reload_at_hangup(hangup, reloader, server.handle()));
    server.await
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

/// From now on a SIGHUP does not end the process. One that comes before the agent serves is waiting for it then.
fn hangup() -> io::Result<Signal> {
    // Any runtime's signals are those of the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { signal(SignalKind::hangup()) })
}

/// SIGHUP reloads; where it says that the terminal is closed from which the agent was started, the agent stops as by Ctrl-C.
async fn reload_at_hangup(mut hangup: Signal, reloader: Arc<Reloader>, server: ServerHandle) {
    let has_terminal = io::stderr().is_terminal();
    while hangup.recv().await.is_some() {
        if has_terminal && !io::stderr().is_terminal() {
            server.stop(true).await;
            return;
        }
        let reloader = Arc::clone(&reloader);
        // It reads files, and storage can hang; one after the other. Only a panic is an error, and it has been told.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}

/// The OpenAPI document, which tells what needs no token.
fn describe(config: &Config) -> String {
    let anonymous = config.auth.anonymous_permissions.iter().copied().collect();
    api::document(&api::endpoints(), &config.server.base_path, anonymous).to_string()
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
