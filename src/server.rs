//! The running agent.

use crate::config::Config;
use crate::host::Changes;

/// How the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the node's own service.
    Production,
    /// For trying out: `--dev`.
    Dev {
        /// Whether calls may change the node: `--apply-changes`.
        changes: Changes,
    },
}

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no server yet.
    #[error("the server is not built yet")]
    NotBuilt,
}

/// Serves until the process is told to stop.
#[expect(clippy::needless_pass_by_value, reason = "the server keeps its configuration")]
pub fn run(config: Config, mode: Mode) -> Result<(), ServerError> {
    log::info!("{mode:?}, listening on {}", config.server.listen);
    Err(ServerError::NotBuilt)
}
