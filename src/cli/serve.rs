//! `nodeaudit serve`

use std::net::SocketAddr;

use clap::Args;

use super::error::CliError;
use super::logging;
use super::options::ConfigOptions;
use super::output::print;
use crate::auth::{Grant, TokenIssuer};
use crate::config::Config;
use crate::host::{Changes, clock};
use crate::reload::signing_key;
use crate::server::{Server, ServerError};
use crate::systemd::{Notifier, Sockets};

/// Seconds that the token on the terminal is good for.
const DEV_TOKEN_S: u32 = 3_600;

/// Run the agent.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    options: ConfigOptions,
    /// Let calls change this node all the same; without it, --dev refuses them
    #[arg(long, requires = "dev")]
    apply_changes: bool,
    /// Listen on this IP address and port
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), CliError> {
        // Before anything is opened that could be taken for one of them.
        let sockets = Sockets::take().map_err(ServerError::Passed)?;
        let sources = self.options.sources(self.listen)?;
        let read_config = move || Config::load(&sources, std::env::vars_os());
        let config = read_config()?;
        logging::start(config.log.level);
        forbid_dumps();
        let changes = if self.options.dev && !self.apply_changes { Changes::Refuse } else { Changes::Apply };
        let server = Server::start(config.clone(), changes, sockets, Box::new(read_config))?;
        let scheme = if config.tls.is_on() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", server.address(), config.server.base_path);
        log::info!("listening on {url}, state in {}", config.state_dir.display());
        if self.options.dev {
            welcome(&config, changes, &url)?;
        }
        Ok(server.run(Notifier::from_environment())?)
    }
}

/// Has the kernel write no core of this process, nor let others of its user look into it: its memory holds keys. A limit of the size
/// would not do, because a core that is piped to a program has none (core(5)).
fn forbid_dumps() {
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        log::warn!("a crash can leave the keys in a core dump: prctl(2): {errno}");
    }
}

/// Tells someone who tries the agent out what to type next.
fn welcome(config: &Config, changes: Changes, url: &str) -> Result<(), CliError> {
    let (subject, roles) = ("dev@localhost".to_owned(), vec!["admin".to_owned()]);
    let (issuer, audience) = (config.auth.issuers.first().cloned(), config.auth.audiences.first().cloned());
    let grant = Grant { subject, roles, lifetime_s: DEV_TOKEN_S, issuer, audience, ..Grant::default() };
    let now_s = clock::wall_clock_ms().div_euclid(1_000);
    // With public keys only, there is nothing to sign with: the tokens come from elsewhere.
    let token = match signing_key(config)? {
        Some(key) => TokenIssuer::new(&key).issue(&grant, now_s)?,
        None => "TOKEN".to_owned(),
    };
    let applied = match changes {
        Changes::Apply => "calls change this node",
        Changes::Refuse => "no call changes this node",
    };
    let minutes = DEV_TOKEN_S / 60;
    let text = format!(
        "nodeaudit {version} serves {url} ({applied}).\n\
         Ring and key are in {state}. Stop it with Ctrl-C.\n\n\
         Try it; the token is good for {minutes} minutes:\n\n  \
         curl -s -H 'Authorization: Bearer {token}' {url}/node/hostname\n\n\
         and read the entry of that call:\n\n  \
         curl -s -H 'Authorization: Bearer {token}' '{url}/audit?limit=1'\n\n",
        version = env!("CARGO_PKG_VERSION"),
        state = config.state_dir.display(),
    );
    print(&text)
}
