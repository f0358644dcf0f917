//! Entries as a table for people: as much of each as the terminal has room for.

use serde::Deserialize;

use super::terminal::{Colour, Terminal, fit, width};
use crate::client::printable;

/// Columns of a path that is cut.
const PATH_MIN: usize = 12;

/// What of an entry is in the table. What an agent leaves out is empty.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    seq: u64,
    timestamp: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    source_ip: String,
    response_code: u16,
    #[serde(default)]
    duration_ms: u64,
    #[serde(default)]
    class: String,
    #[serde(default)]
    outcome: String,
    count: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Time,
    Seq,
    Class,
    Code,
    Duration,
    User,
    Source,
    Method,
    Path,
}

impl Column {
    /// From left to right.
    const ALL: [Self; 9] = [
        Self::Time,
        Self::Seq,
        Self::Class,
        Self::Code,
        Self::Duration,
        Self::User,
        Self::Source,
        Self::Method,
        Self::Path,
    ];

    /// What is left out first where there is no room.
    const DISPENSABLE: [Self; 6] = [Self::Duration, Self::Seq, Self::Source, Self::Class, Self::User, Self::Method];

    const fn title(self) -> &'static str {
        match self {
            Self::Time => "TIME",
            Self::Seq => "SEQ",
            Self::Class => "CLASS",
            Self::Code => "CODE",
            Self::Duration => "MS",
            Self::User => "USER",
            Self::Source => "SOURCE",
            Self::Method => "METHOD",
            Self::Path => "PATH",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Seq | Self::Duration)
    }

    fn text(self, entry: &Shown) -> String {
        let text = match self {
            // Milliseconds are in every other format.
            Self::Time => match entry.timestamp.split_once('.') {
                Some((seconds, _)) => format!("{seconds}Z"),
                None => entry.timestamp.clone(),
            },
            Self::Seq => entry.seq.to_string(),
            Self::Class => entry.class.clone(),
            Self::Code if matches!(entry.outcome.as_str(), "completed" | "") => entry.response_code.to_string(),
            Self::Code if entry.response_code == 0 => entry.outcome.clone(),
            Self::Code => format!("{} {}", entry.response_code, entry.outcome),
            Self::Duration => entry.duration_ms.to_string(),
            Self::User if entry.user.is_empty() => "-".to_owned(),
            Self::User => entry.user.clone(),
            Self::Source => entry.source_ip.clone(),
            Self::Method => entry.method.clone(),
            Self::Path => match entry.count {
                Some(count) => format!("{} (and {} more)", entry.path, count.saturating_sub(1)),
                None => entry.path.clone(),
            },
        };
        printable(&text)
    }
}

/// Which columns there are, and how wide: as the first entries need them. Later ones are cut to it.
pub(super) struct EntryTable {
    terminal: Terminal,
    columns: Vec<(Column, usize)>,
}

impl EntryTable {
    /// A table for these entries, and others like them.
    pub(super) fn new(terminal: Terminal, entries: &[Shown]) -> Self {
        let need = |column: Column| {
            let widths = entries.iter().map(|entry| width(&column.text(entry)));
            widths.chain([column.title().len()]).max().unwrap_or_default()
        };
        let mut columns: Vec<_> = Column::ALL.into_iter().map(|column| (column, need(column))).collect();
        if let Some(available) = terminal.columns {
            // All but the last, with two spaces behind each.
            let before_path = |columns: &[(Column, usize)]| {
                columns[..columns.len() - 1].iter().map(|(_, width)| width + 2).sum::<usize>()
            };
            for dispensable in Column::DISPENSABLE {
                if before_path(&columns) + PATH_MIN > available {
                    columns.retain(|(column, _)| *column != dispensable);
                }
            }
            let path_width = available.saturating_sub(before_path(&columns)).max(PATH_MIN);
            if let Some((_, width)) = columns.last_mut() {
                *width = path_width;
            }
        }
        Self { terminal, columns }
    }

    /// The line above the entries.
    pub(super) fn head(&self) -> String {
        let titles = self.line(|column| column.title().to_owned());
        format!("{}\n", self.terminal.paint(Colour::Faint, titles.trim_end()))
    }

    /// The line of an entry.
    pub(super) fn row(&self, entry: &Shown) -> String {
        let colour = match (entry.response_code, entry.class.as_str()) {
            (500.. | 0, _) => Colour::Failure,
            (400.., _) => Colour::Warning,
            _ => Colour::Plain,
        };
        let line = self.line(|column| column.text(entry));
        format!("{}\n", self.terminal.paint(colour, line.trim_end()))
    }

    fn line(&self, text: impl Fn(Column) -> String) -> String {
        let mut line = String::new();
        for (index, &(column, wide)) in self.columns.iter().enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let text = text(column);
            let is_last = index + 1 == self.columns.len();
            if is_last && self.terminal.columns.is_none() {
                line.push_str(&text);
            } else if column.is_number() && width(&text) < wide {
                line.push_str(&" ".repeat(wide - width(&text)));
                line.push_str(&text);
            } else {
                line.push_str(&fit(&text, wide));
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Shown> {
        let entry = |more: &str| {
            let text = format!(
                "{{\"seq\":7,\"timestamp\":\"2026-11-26T17:20:11.123Z\",\"class\":\"read\",\"outcome\":\"completed\",{more}}}"
            );
            serde_json::from_str(&text).unwrap()
        };
        vec![
            entry(
                "\"user\":\"\u{5b57}\\u001b[2J\",\"method\":\"GET\",\"path\":\"/a\\nb\",\"source_ip\":\"::1\",\"response_code\":200",
            ),
            entry(
                "\"user\":\"\",\"method\":\"DELETE\",\"path\":\"/node/hostname/of/some/length\",\"response_code\":401,\"count\":3",
            ),
        ]
    }

    fn table(columns: Option<usize>) -> String {
        let terminal = Terminal::plain(columns);
        let entries = entries();
        let table = EntryTable::new(terminal, &entries);
        entries.iter().map(|entry| table.row(entry)).fold(table.head(), |text, row| text + &row)
    }

    #[test]
    fn whatever_callers_wrote_a_row_is_a_line_and_its_columns_stand_below_their_titles() {
        let text = table(None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J") && text.contains("/a\\nb"), "{text}");
        let at = |line: &str, what: &str| width(&line[..line.find(what).unwrap()]);
        assert_eq!(at(lines[0], "METHOD"), at(lines[1], "GET"));
        assert_eq!(at(lines[0], "PATH"), at(lines[2], "/node"));
        assert!(lines[2].ends_with("/node/hostname/of/some/length (and 2 more)"), "{text}");
    }

    #[test]
    fn on_a_narrow_terminal_less_is_told_and_no_line_is_broken() {
        for columns in 20..140 {
            let text = table(Some(columns));
            for line in text.lines() {
                assert!(width(line) <= columns.max(28 + PATH_MIN), "{columns}: {line}");
            }
            assert!(text.contains("TIME") && text.contains("CODE") && text.contains("PATH"), "{text}");
        }
        assert!(!table(Some(60)).contains("SEQ"));
        assert!(table(Some(60)).contains("USER") || table(Some(60)).contains("METHOD"));
    }
}
