//! `nodeaudit serve`

use std::net::SocketAddr;

use clap::Args;

use super::error::CliError;
use super::logging;
use super::options::ConfigOptions;
use crate::host::Changes;
use crate::server::{self, Mode};

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
        let config = self.options.load(self.listen)?;
        logging::start(config.log.level);
        Ok(server::run(config, self.mode())?)
    }

    fn mode(&self) -> Mode {
        match (self.options.dev, self.apply_changes) {
            (false, _) => Mode::Production,
            (true, true) => Mode::Dev { changes: Changes::Apply },
            (true, false) => Mode::Dev { changes: Changes::Refuse },
        }
    }
}
