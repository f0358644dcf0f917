//! The command line: one file a command.
//!
//! Each command loads the configuration, calls the library and writes its result to standard output. Errors go up to
//! `command`, which prints them once and picks the exit code. Nothing below `cli` prints.

mod audit;
mod check_config;
mod command;
mod config;
mod entry_format;
mod entry_table;
mod error;
mod exit;
mod filters;
mod logging;
mod options;
mod output;
mod pull;
mod remote;
mod serve;
mod support_bundle;
mod terminal;
mod tls;
mod token;
mod ttl;

pub use command::{Cli, main};
pub use error::CliError;
pub use exit::Exit;
