//! What the agent obeys while it serves, and what it tells of itself: signals in, the service manager's messages out.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::rt::signal::unix::Signal;
use actix_web::rt::spawn;
use actix_web::rt::time::sleep;

use crate::audit::Writer;
use crate::reload::Reloader;
use crate::signals::Signals;
use crate::systemd::Notifier;
use crate::vitals::Vitals;

/// How often the status line is looked after.
const LOOK: Duration = Duration::from_secs(2);

/// In the time that the watchdog waits, there are so many signs of life: one that comes late, or is lost, ends nobody.
const SIGNS: u32 = 4;

/// The agent's side of what the process is told and tells.
#[derive(Clone)]
pub(crate) struct Lifecycle {
    notifier: Arc<Notifier>,
    /// For people: where it serves.
    serves: String,
    writer: Writer,
    vitals: Vitals,
}

impl Lifecycle {
    pub(crate) fn new(notifier: Notifier, serves: String, writer: Writer) -> Self {
        let vitals = Vitals::new(writer.clone());
        Self { notifier: Arc::new(notifier), serves, writer, vitals }
    }

    /// To be called on each worker.
    pub(crate) fn watch_worker(&self) {
        if let Some(limit) = self.notifier.watchdog() {
            self.vitals.watch_worker(limit / SIGNS);
        }
    }

    /// The agent serves from now on.
    pub(crate) fn begin(&self, signals: Signals, reloader: Arc<Reloader>, server: &ServerHandle) {
        spawn(self.clone().reload_at_hangup(signals.hangup, reloader, server.clone()));
        for signal in signals.stop {
            spawn(self.clone().stop_at(signal, server.clone()));
        }
        self.notifier.ready(&self.status());
        if self.notifier.is_heard() {
            spawn(self.clone().keep_telling());
        }
        if let Some(limit) = self.notifier.watchdog() {
            spawn(self.clone().feed_watchdog(limit));
        }
    }

    /// SIGHUP reloads; where it says that the terminal is closed from which the agent was started, the agent stops as by Ctrl-C.
    async fn reload_at_hangup(self, mut hangup: Signal, reloader: Arc<Reloader>, server: ServerHandle) {
        let has_terminal = io::stderr().is_terminal();
        while hangup.recv().await.is_some() {
            if has_terminal && !io::stderr().is_terminal() {
                server.stop(true).await;
                return;
            }
            self.notifier.reloading();
            let reloader = Arc::clone(&reloader);
            // It reads files, and storage can hang; one after the other. Only a panic is an error, and it has been told.
            let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            self.notifier.ready(&self.status());
        }
    }

    /// The first signal lets open calls end, the second one does not.
    async fn stop_at(self, mut signal: Signal, server: ServerHandle) {
        if signal.recv().await.is_some() {
            log::info!("stopping");
            self.notifier.stopping();
            drop(server.stop(true));
        }
        if signal.recv().await.is_some() {
            log::warn!("told to stop again: open calls are broken off");
            drop(server.stop(false));
        }
    }

    /// Keeps the status line true.
    async fn keep_telling(self) {
        let mut told = self.status();
        loop {
            sleep(LOOK).await;
            let status = self.status();
            if status != told {
                self.notifier.status(&status);
                told = status;
            }
        }
    }

    /// Gives signs of life while there is life.
    async fn feed_watchdog(self, limit: Duration) {
        let mut ails = None;
        loop {
            let check = self.vitals.check(limit / 2);
            match (check, ails) {
                (Ok(()), _) => self.notifier.alive(),
                (Err(ailment), None) => log::error!("{ailment}: the watchdog is told nothing more until it goes on"),
                (Err(_), Some(_)) => {}
            }
            ails = check.err();
            sleep(limit / SIGNS).await;
        }
    }

    fn status(&self) -> String {
        let serves = &self.serves;
        match self.writer.health() {
            Ok(()) => format!("serving {serves}; the audit store works"),
            Err(error) => format!("serving {serves}; changes are refused: {error}"),
        }
    }
}
