//! `nodeaudit config`

use clap::{Args, Subcommand};

use super::error::CliError;
use super::options::ConfigOptions;
use super::output::print;

/// Look into the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration in force as TOML, with an explanation of each key
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    options: ConfigOptions,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let Self::Show(command) = self;
        print(&command.options.load(None)?.render())
    }
}
