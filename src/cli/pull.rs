//! `nodeaudit pull`

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::audit::told;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Reader, print_bytes};
use super::remote::block_on;
use crate::fleet::{self, Node, Nodes, Report, Store};
use crate::report;

/// How often the progress is shown anew.
const PROGRESS_EACH: Duration = Duration::from_millis(200);

/// Read on in the logs of many nodes.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The list of nodes: names, addresses, tokens, and whom to trust
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Where NAME.ndjson and NAME.cursor.json of each node are
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many nodes are read at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    /// Leave the rest of a node to the next run after so many entries
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_entries: u64,
    /// How to tell what came of it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The nodes with failures and gaps, and the sum, for people
    Table,
    /// A JSON object for each node
    Ndjson,
}

/// What came of a node, for programs.
#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    entries: u64,
    /// Entries that its ring had lost, as far as their number is known.
    missing: u64,
    gaps: usize,
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Sums over all nodes.
#[derive(Default)]
struct Sums {
    nodes: usize,
    entries: u64,
    failed: usize,
    /// Nodes that have lost entries.
    gaps: usize,
    more: usize,
}

impl Pull {
    pub(super) fn run(self) -> Result<(), CliError> {
        let Nodes(nodes) = Nodes::load(&self.nodes)?;
        let store = Store::open(&self.out)?;
        block_on(self.read(&nodes, &store))
    }

    async fn read(&self, nodes: &[Node], store: &Store) -> Result<(), CliError> {
        let progress = Progress::new(nodes.len());
        let pulls = nodes.iter().map(|node| {
            let progress = &progress;
            async move {
                let pull = fleet::Pull::new(node, store, self.max_entries);
                (node, pull.run(|entries| progress.entries(entries)).await)
            }
        });
        let mut reports = stream::iter(pulls).buffer_unordered(self.parallel.into());
        let mut sums = Sums { nodes: nodes.len(), ..Sums::default() };
        let mut reader = Reader::There;
        while let Some((node, report)) = reports.next().await {
            sums.add(&report);
            progress.node(&sums);
            // Whoever does not want to hear of it wants the entries all the same.
            if reader == Reader::There {
                progress.clear();
                reader = print_bytes(self.told(node, &report).as_bytes())?;
            }
        }
        progress.clear();
        if self.output == Format::Table && reader == Reader::There {
            print_bytes(sums.told().as_bytes())?;
        }
        sums.end()
    }

    fn told(&self, node: &Node, report: &Report) -> String {
        let name = node.name.as_str();
        let error = report.failure.as_ref().map(|failure| report::chain(failure));
        match self.output {
            Format::Ndjson => {
                let missing = report.gaps.iter().filter_map(|gap| gap.count).sum();
                let (entries, gaps, more) = (report.entries, report.gaps.len(), report.is_more);
                let told = Told { node: name, entries, missing, gaps, more, error };
                serde_json::to_string(&told).expect("a report is plain data") + "\n"
            }
            Format::Table => {
                let gaps = report.gaps.iter().map(told);
                let more = report.is_more.then(|| "there is more, which is left to the next run".to_owned());
                let mut text = String::new();
                for line in error.into_iter().chain(gaps).chain(more) {
                    // What agents say is in there, each text of theirs escaped.
                    writeln!(text, "{name}: {line}").expect("writing to a String can't fail");
                }
                text
            }
        }
    }
}

impl Sums {
    fn add(&mut self, report: &Report) {
        self.entries += report.entries;
        self.failed += usize::from(report.failure.is_some());
        self.gaps += usize::from(!report.gaps.is_empty());
        self.more += usize::from(report.is_more);
    }

    fn told(&self) -> String {
        let Self { nodes, entries, failed, gaps, more } = self;
        format!(
            "nodes: {nodes}; entries: {entries}; nodes that failed: {failed}, lost entries: {gaps}, have more: {more}\n"
        )
    }

    /// A failure comes before a gap, and that before what is left.
    fn end(&self) -> Result<(), CliError> {
        match (self.failed, self.gaps, self.more) {
            (0, 0, 0) => Ok(()),
            (0, 0, more) => {
                Err(CliError::new(Exit::TempFail, format!("{more} nodes have more, which is left to the next run")))
            }
            (0, gaps, _) => {
                Err(CliError::new(Exit::Gap, format!("{gaps} nodes have lost entries before they could be read")))
            }
            (failed, ..) => Err(CliError::new(Exit::Unavailable, format!("{failed} of {} nodes failed", self.nodes))),
        }
    }
}

/// How far it is, on a terminal.
struct Progress {
    is_shown: bool,
    nodes: usize,
    done: Cell<usize>,
    failed: Cell<usize>,
    entries: Cell<u64>,
    shown: RefCell<Option<Instant>>,
}

impl Progress {
    fn new(nodes: usize) -> Self {
        Self {
            is_shown: stderr().is_terminal(),
            nodes,
            done: Cell::new(0),
            failed: Cell::new(0),
            entries: Cell::new(0),
            shown: RefCell::new(None),
        }
    }

    fn entries(&self, entries: u64) {
        self.entries.set(self.entries.get() + entries);
        self.show();
    }

    fn node(&self, sums: &Sums) {
        self.done.set(self.done.get() + 1);
        self.failed.set(sums.failed);
        self.show();
    }

    fn show(&self) {
        let now = Instant::now();
        let is_due = self.shown.borrow().is_none_or(|shown| now - shown >= PROGRESS_EACH);
        if self.is_shown && is_due {
            let (done, nodes, entries, failed) = (self.done.get(), self.nodes, self.entries.get(), self.failed.get());
            let _ = write!(stderr(), "\r\u{1b}[K{done} of {nodes} nodes, {entries} entries, {failed} failed");
            *self.shown.borrow_mut() = Some(now);
        }
    }

    /// Makes room for a line.
    fn clear(&self) {
        if self.is_shown && self.shown.take().is_some() {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
