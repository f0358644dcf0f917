//! `nodeaudit check-config`

use clap::Args;

use super::error::CliError;
use super::options::ConfigOptions;
use super::output::print;

/// Say what is wrong with the configuration, all of it, or `ok`.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    options: ConfigOptions,
}

impl CheckConfig {
    pub(super) fn run(self) -> Result<(), CliError> {
        self.options.load(None)?;
        print("ok\n")
    }
}
