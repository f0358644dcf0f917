//! `nodeaudit audit`

mod export;
mod get;
mod list;
mod status;
mod tail;

use clap::{Subcommand, ValueEnum};

use super::error::CliError;
use super::exit::Exit;
use crate::client::{GapTold, one_line};

/// Read the log of an agent.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List entries, newest first
    List(list::List),
    /// Print one entry
    Get(get::Get),
    /// Print the newest entries, and each new one as it comes
    Tail(tail::Tail),
    /// Print all entries that match, oldest first
    Export(export::Export),
    /// Say what the agent's ring holds and has lost, and whether it can store
    Status(status::Status),
}

/// The format of what is one object.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectFormat {
    /// Lines for people
    Table,
    /// The JSON object, as the agent sends it, on one line
    Json,
}

impl Audit {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self {
            Self::List(command) => command.run(),
            Self::Get(command) => command.run(),
            Self::Tail(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Status(command) => command.run(),
        }
    }
}

/// Says what is missing, as a line.
pub(super) fn told(gap: &GapTold) -> String {
    let count = gap.count.map_or("an unknown number of".to_owned(), |count| count.to_string());
    let from = gap.from.map_or(String::new(), |seq| format!(" from seq {seq}"));
    let to = gap.to.map_or(String::new(), |seq| format!(" to {seq}"));
    let why = match gap.reason.as_str() {
        "new_ring" => "the ring is another one",
        "evicted" => "they have aged out of the ring",
        other => &one_line(other, 40),
    };
    format!("missing: {count} entries{from}{to}: {why}")
}

/// An error that says that entries are missing: one line a gap, or none.
fn missing(gaps: &[GapTold]) -> Result<(), CliError> {
    if gaps.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = gaps.iter().map(told).collect();
    Err(CliError::new(Exit::Gap, lines.join("\n")))
}
