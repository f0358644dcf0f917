//! `nodeaudit audit status`

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ObjectFormat;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::print;
use crate::cli::remote::{Remote, block_on};
use crate::client::{PAGE_MAX_BYTES, line_of, printable};

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = ObjectFormat::Table)]
    output: ObjectFormat,
    #[command(flatten)]
    remote: Remote,
}

/// What of the status is for people. What an older or a newer agent does not say is left out.
#[derive(Deserialize)]
struct Told {
    epoch: String,
    health: String,
    failure: Option<String>,
    created: String,
    entries: u64,
    max_entries: u64,
    bytes: u64,
    max_bytes: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    last_commit_us: Option<u64>,
    #[serde(default)]
    damaged_files: u64,
    classes: Vec<ClassTold>,
}

#[derive(Deserialize)]
struct ClassTold {
    class: String,
    durability: String,
    entries: u64,
    guarantee_entries: u64,
    horizon_seconds: Option<u64>,
    evicted: u64,
    dropped: u64,
    interrupted: u64,
    lost: u64,
    coalesced: u64,
}

impl Status {
    pub(super) fn run(self) -> Result<(), CliError> {
        block_on(async {
            let mut caller = self.remote.caller()?;
            let answer = caller.get("/audit/status", &[], Duration::ZERO).await?;
            let body = answer.whole(PAGE_MAX_BYTES, "the status").await?;
            let foreign =
                |error: serde_json::Error| CliError::from(caller.foreign(format!("its status is none: {error}")));
            let raw = serde_json::from_slice::<&RawValue>(&body).map_err(foreign)?;
            let told = serde_json::from_str::<Told>(raw.get()).map_err(foreign)?;
            match self.output {
                ObjectFormat::Json => print(&format!("{}\n", line_of(raw)))?,
                ObjectFormat::Table => print(&told.table(&caller.target().to_string()))?,
            }
            match told.failure {
                None => Ok(()),
                Some(failure) => {
                    Err(CliError::new(Exit::TempFail, format!("calls can't be recorded now: {}", printable(&failure))))
                }
            }
        })
    }
}

impl Told {
    fn table(&self, target: &str) -> String {
        let seqs = match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "none".to_owned(),
        };
        let commit = self.last_commit_us.map_or("none yet".to_owned(), |us| format!("{us} us"));
        let mut text = String::new();
        for (name, value) in [
            ("agent", target.to_owned()),
            ("health", self.health.clone()),
            ("ring", format!("{} since {}", self.epoch, self.created)),
            ("entries", format!("{} of {}", self.entries, self.max_entries)),
            ("bytes", format!("{} of {}", self.bytes, self.max_bytes)),
            ("seqs", seqs),
            ("last commit", commit),
            ("damaged files", self.damaged_files.to_string()),
        ] {
            writeln!(text, "{name:<14} {}", printable(&value)).expect("writing to a String does not fail");
        }
        let titles = [
            "CLASS",
            "DURABILITY",
            "ENTRIES",
            "GUARANTEE",
            "OLDEST",
            "EVICTED",
            "DROPPED",
            "INTERRUPTED",
            "LOST",
            "COALESCED",
        ];
        let rows = self.classes.iter().map(ClassTold::row);
        let rows: Vec<_> = [titles.map(str::to_owned)].into_iter().chain(rows).collect();
        let widths = std::array::from_fn::<_, 10, _>(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        });
        text.push('\n');
        for row in rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                let cell = if column < 2 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl ClassTold {
    fn row(&self) -> [String; 10] {
        [
            printable(&self.class),
            printable(&self.durability),
            self.entries.to_string(),
            self.guarantee_entries.to_string(),
            self.horizon_seconds.map_or("-".to_owned(), age),
            self.evicted.to_string(),
            self.dropped.to_string(),
            self.interrupted.to_string(),
            self.lost.to_string(),
            self.coalesced.to_string(),
        ]
    }
}

/// So many seconds in the largest unit that tells something.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_the_largest_unit_that_tells_something() {
        assert_eq!([0, 119, 120, 7_199, 7_200, 172_800].map(age), ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
