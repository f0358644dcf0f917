//! The options that say which agent is called, and who calls: the same for every command that calls one.

use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use super::exit::Exit;
use crate::client::{Caller, Limits, Pin, Secret, Target, Trust};
use crate::config::{TOKEN_VARIABLE, URL_VARIABLE};

/// This node's agent, where its unit has its socket.
const LOCAL_AGENT: &str = "unix:/run/nodeaudit/nodeaudit.sock";

/// Which agent is called, and who calls.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "it is read on a terminal")]
#[command(next_help_heading = "The agent, and who asks")]
pub(super) struct Remote {
    /// The agent: https://NODE:8443, http://127.0.0.1:8080, unix:/SOCKET or unix:/SOCKET:/BASE; where it is left out, the variable
    /// NODEAUDIT_URL, and where that is not set, this node's agent through its socket, which root needs no token for
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token is in FILE, which nobody else can read; the variable NODEAUDIT_TOKEN where it is left out
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Trust the authorities in FILE (PEM), instead of those of the system
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256, as tls init prints it
    #[arg(long, value_name = "SHA-256", conflicts_with = "cacert", value_parser = Pin::parse)]
    pin: Option<Pin>,
    /// Show the certificate in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Show the token to another machine without TLS, where whoever is on the way can read it
    #[arg(long)]
    plaintext: bool,
}

impl Remote {
    /// Who calls that agent, with the token as it is now.
    pub(super) fn caller(&self) -> Result<Caller, CliError> {
        let target = self.target()?;
        let secret = match (&self.token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => Some(Secret::load(path)?),
            (None, Ok(token)) if !token.is_empty() => Some(Secret::in_variable(TOKEN_VARIABLE, &token)?),
            (None, _) => None,
        };
        if secret.is_some() && target.is_open_to_others() && !self.plaintext {
            let message = format!("the token would go to {target} without TLS");
            return Err(
                CliError::new(Exit::Usage, message).with_hint("use https://, or --plaintext if the network is safe")
            );
        }
        let identity = self.cert.clone().zip(self.key.clone());
        let trust = Trust { authorities: self.cacert.clone(), pin: self.pin, identity };
        Ok(Caller::new(target, &trust, secret, Limits::DEFAULT)?)
    }

    fn target(&self) -> Result<Target, CliError> {
        let (name, text) = match (&self.url, std::env::var(URL_VARIABLE)) {
            (Some(url), _) => ("--url", url.clone()),
            (None, Ok(url)) if !url.is_empty() => (URL_VARIABLE, url),
            (None, _) => ("the socket of this node", LOCAL_AGENT.to_owned()),
        };
        Target::parse(&text).map_err(|error| CliError::new(Exit::Usage, format!("{name} {error}")))
    }
}

/// Runs what calls agents to its end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::of(Exit::OsErr, &error))?.block_on(work)
}
