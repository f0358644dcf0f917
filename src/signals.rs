//! The signals that the agent obeys: from when they are listened for, none of them ends the process by itself.

use std::io;

use actix_web::rt::signal::unix::{Signal, SignalKind, signal};

/// Signals that have come and not been taken wait here.
#[derive(Debug)]
pub(crate) struct Signals {
    /// SIGHUP: read the configuration again.
    pub(crate) hangup: Signal,
    /// SIGTERM and SIGINT: stop; said twice: at once.
    pub(crate) stop: [Signal; 2],
}

impl Signals {
    /// Listens from now on. One that comes before the agent serves is waiting for it then.
    pub(crate) fn listen() -> io::Result<Self> {
        // Any runtime's signals are those of the process.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                stop: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
            })
        })
    }
}
