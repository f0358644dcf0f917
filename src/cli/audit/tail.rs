//! `nodeaudit audit tail`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;
use uuid::Uuid;

use super::told;
use crate::cli::entry_format::{EntryFormat, EntryPrinter};
use crate::cli::error::CliError;
use crate::cli::filters::Filters;
use crate::cli::output::{Reader, complain, print_bytes};
use crate::cli::remote::{Remote, block_on};
use crate::client::{Caller, ClientError, PAGE_MAX_BYTES, Page, PageCursor, Query};
use crate::report;

/// How long the agent is asked to keep a call while nothing is new.
const WAIT_S: u64 = 30;

/// How long to wait before an agent is called again that can't be reached.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(in crate::cli) struct Tail {
    /// How many entries to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=100))]
    lines: u64,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// A JSON object a line
    #[value(alias = "json")]
    Ndjson,
    /// Comma-separated values, with a header line
    Csv,
}

/// Where the log is read on.
struct Place {
    epoch: String,
    after: u64,
    known: Option<String>,
}

#[derive(Deserialize)]
struct Identified {
    id: Uuid,
    seq: u64,
}

/// A log that is followed.
struct Follower<'a> {
    tail: &'a Tail,
    printer: EntryPrinter,
    /// Entries of the calls that are made here, as far as they have not been met: nobody wants to see them.
    own: BTreeSet<Uuid>,
}

impl Tail {
    pub(super) fn run(self) -> Result<(), CliError> {
        let format = match self.output {
            Format::Table => EntryFormat::Table,
            Format::Ndjson => EntryFormat::Ndjson,
            Format::Csv => EntryFormat::Csv,
        };
        let printer = EntryPrinter::new(format);
        block_on(Follower { tail: &self, printer, own: BTreeSet::new() }.follow())
    }
}

impl Follower<'_> {
    async fn follow(&mut self) -> Result<(), CliError> {
        let mut caller = self.tail.remote.caller()?;
        let (mut place, mut reader) = self.begin(&mut caller).await?;
        let mut pause = PAUSE_MIN;
        while reader == Reader::There {
            match self.read_on(&mut caller, &mut place).await {
                Ok(now) => (reader, pause) = (now, PAUSE_MIN),
                Err(Failure::Call(error)) if may_pass(&error) => {
                    let seconds = pause.as_secs();
                    complain(&format!("{}; trying again in {seconds} s", report::chain(&error)));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    // A token that was renewed meanwhile is the one to show.
                    caller = self.tail.remote.caller()?;
                }
                Err(Failure::Call(error)) => return Err(error.into()),
                Err(Failure::Print(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Prints the newest entries, and gives the place behind them.
    async fn begin(&mut self, caller: &mut Caller) -> Result<(Place, Reader), CliError> {
        let query = Query::new("/audit").with("limit", &self.tail.lines.max(1).to_string());
        let answer = caller.get(query.with_all(self.tail.filters.pairs()).as_str(), &[], Duration::ZERO).await?;
        self.own.extend(answer.header("audit-id").and_then(|id| Uuid::try_parse(id).ok()));
        let as_of = answer.header("audit-as-of").and_then(crate::decimal::parse);
        let epoch = answer.header("audit-epoch").and_then(|epoch| Uuid::try_parse(epoch).ok());
        let body = answer.whole(PAGE_MAX_BYTES, "a page").await?;
        let (Some(after), Some(epoch)) = (as_of, epoch) else {
            return Err(caller.foreign("it does not say as of when its page is").into());
        };
        let foreign = |error: String| CliError::from(caller.foreign(error));
        let mut entries = Page::parse(&body).map_err(foreign)?.items;
        entries.truncate(usize::try_from(self.tail.lines).unwrap_or(usize::MAX));
        entries.reverse();
        let reader = print_bytes(&self.printer.entries(&entries).map_err(foreign)?)?;
        Ok((Place { epoch: epoch.to_string(), after, known: None }, reader))
    }

    /// Prints what comes next, once there is something or the agent has waited long enough.
    async fn read_on(&mut self, caller: &mut Caller, place: &mut Place) -> Result<Reader, Failure> {
        let query = Query::new("/audit").with("limit", "100").with("wait", &format!("{WAIT_S}s"));
        let mut query = query.with("after", &place.after.to_string()).with("epoch", &place.epoch);
        if let Some(known) = &place.known {
            query = query.with("known", known);
        }
        query = query.with_all(self.tail.filters.pairs());
        let answer = caller.get(query.as_str(), &[], Duration::from_secs(WAIT_S)).await?;
        self.own.extend(answer.header("audit-id").and_then(|id| Uuid::try_parse(id).ok()));
        let body = answer.whole(PAGE_MAX_BYTES, "a page").await?;
        let foreign = |error: String| Failure::Call(caller.foreign(error));
        let page = Page::parse(&body).map_err(foreign)?;
        let Some(PageCursor { epoch, after: Some(after), known, .. }) = page.cursor.clone() else {
            return Err(foreign("its page has no cursor".to_owned()));
        };
        let gap = page.gap().map_err(foreign)?;
        if let Some(gap) = &gap {
            complain(&told(gap));
        }
        let others = self.others(&page.items).map_err(foreign)?;
        let mut text = if others.is_empty() { Vec::new() } else { self.printer.entries(&others).map_err(foreign)? };
        let raw_gaps: Vec<_> = page.gap.map(ToOwned::to_owned).into_iter().collect();
        text.extend(self.printer.end(None, &raw_gaps).into_bytes());
        *place = Place { epoch: epoch.to_string(), after, known: Some(known) };
        print_bytes(&text).map_err(Failure::Print)
    }

    /// The entries that are not of calls made here.
    fn others<'e>(&mut self, entries: &[&'e RawValue]) -> Result<Vec<&'e RawValue>, String> {
        let mut others = Vec::with_capacity(entries.len());
        for entry in entries {
            let read = serde_json::from_str::<Identified>(entry.get());
            let Identified { id, seq } = read.map_err(|error| format!("an entry of it is none: {error}"))?;
            if !self.own.remove(&id) {
                others.push(*entry);
            }
            // What is older than what was met won't be met any more.
            let is_to_come =
                |id: &Uuid| crate::audit::EntryId::parse(&id.to_string()).is_some_and(|id| id.seq().0 > seq);
            self.own.retain(is_to_come);
        }
        Ok(others)
    }
}

/// Why following ends, or pauses.
enum Failure {
    Call(ClientError),
    Print(CliError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Call(error)
    }
}

/// Whether it may be otherwise in a moment: an agent that is started again, a node that reboots.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Late { .. } | ClientError::Broken { .. } => true,
        ClientError::Refused { .. } => {
            matches!(error, ClientError::Refused { problem, .. } if matches!(problem.status, 408 | 429 | 500..=599))
        }
        ClientError::Tls { .. } | ClientError::Foreign { .. } | ClientError::TooLarge { .. } => false,
    }
}
