//! `nodeaudit audit export`

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::filters::Filters;
use crate::cli::output::{Reader, print_bytes};
use crate::cli::remote::{Remote, block_on};
use crate::client::Query;

/// Bytes of the end of an export, in which it says what was lost meanwhile.
const END_BYTES: usize = 4096;

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Ndjson)]
    output: Format,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object
    Json,
    /// A JSON object a line
    Ndjson,
    /// Comma-separated values, with a header line
    Csv,
    /// The Journal Export Format, for systemd-journal-remote
    Journal,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Journal => "journal",
        }
    }

    /// What stands before the number of entries that were evicted during an export, near its end.
    const fn before_evicted(self) -> &'static [u8] {
        match self {
            Self::Json => b",\"evicted_items\":",
            Self::Ndjson => b"{\"gap\":{\"evicted_items\":",
            Self::Csv => b"#gap,evicted_items,",
            Self::Journal => b"NODEAUDIT_GAP=",
        }
    }

    /// How many entries were evicted during an export that ends so.
    fn evicted(self, end: &[u8]) -> u64 {
        let mark = self.before_evicted();
        let found = end.windows(mark.len()).rposition(|window| window == mark);
        let digits = found.map(|at| &end[at + mark.len()..]).unwrap_or_default();
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // In other places than these it is a text of a caller's.
        let (digits, rest) = digits.split_at(length);
        let is_end = match self {
            Self::Json => rest == b"}",
            Self::Ndjson => rest == b"}}\n",
            Self::Csv => rest == b"\r\n",
            Self::Journal => rest.starts_with(b"\n"),
        };
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_end);
        digits.and_then(crate::decimal::parse).unwrap_or(0)
    }
}

impl Export {
    pub(super) fn run(self) -> Result<(), CliError> {
        block_on(self.print())
    }

    async fn print(&self) -> Result<(), CliError> {
        let mut caller = self.remote.caller()?;
        let query = Query::new("/audit/export").with("format", self.output.name()).with_all(self.filters.pairs());
        let mut answer = caller.get(query.as_str(), &[], Duration::ZERO).await?;
        let mut end = Vec::new();
        while let Some(piece) = answer.next().await? {
            if print_bytes(&piece)? == Reader::Gone {
                return Ok(());
            }
            end.extend_from_slice(&piece[piece.len().saturating_sub(END_BYTES)..]);
            end.drain(..end.len().saturating_sub(END_BYTES));
        }
        match self.output.evicted(&end) {
            0 => Ok(()),
            evicted => {
                let message = format!("missing: {evicted} entries aged out of the ring before they could be read");
                Err(CliError::new(Exit::Gap, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_export_says_to_be_lost_is_read_at_its_end_alone() {
        for (format, end, evicted) in [
            (Format::Json, "],\"total_items\":9,\"evicted_items\":12}", 12),
            (Format::Json, "],\"total_items\":9,\"evicted_items\":0}", 0),
            (Format::Ndjson, "{\"seq\":1}\n{\"gap\":{\"evicted_items\":7}}\n", 7),
            (Format::Ndjson, "{\"path\":\"{\\\"gap\\\":{\\\"evicted_items\\\":7}}\"}\n", 0),
            (Format::Csv, "x\r\n#gap,evicted_items,3\r\n", 3),
            (Format::Csv, "\"#gap,evicted_items,3\",4\r\n", 0),
            (Format::Journal, "__REALTIME_TIMESTAMP=1\nNODEAUDIT_GAP=5\nMESSAGE=x\n\n", 5),
            (Format::Ndjson, "", 0),
        ] {
            assert_eq!(format.evicted(end.as_bytes()), evicted, "{end}");
        }
    }
}
