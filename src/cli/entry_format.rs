//! Entries as they are printed: for people, or for programs.

use clap::ValueEnum;
use serde_json::Value;
use serde_json::value::RawValue;

use super::entry_table::{EntryTable, Shown};
use super::terminal::Terminal;
use crate::api::format::csv;
use crate::client::line_of;

/// The format of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EntryFormat {
    /// A table for people
    Table,
    /// One JSON object
    Json,
    /// A JSON object a line
    Ndjson,
    /// Comma-separated values, with a header line
    Csv,
}

/// Prints entries as they come.
pub(super) struct EntryPrinter {
    format: EntryFormat,
    /// Made for the first entries.
    table: Option<EntryTable>,
    printed: u64,
}

impl EntryPrinter {
    pub(super) const fn new(format: EntryFormat) -> Self {
        Self { format, table: None, printed: 0 }
    }

    /// What to print for these entries. Fails where one is none.
    pub(super) fn entries(&mut self, entries: &[&RawValue]) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        match self.format {
            EntryFormat::Table => self.rows(entries, &mut text)?,
            EntryFormat::Json => {
                for entry in entries {
                    text.extend_from_slice(if self.printed == 0 { b"{\"items\":[\n" } else { b",\n" });
                    text.extend_from_slice(line_of(entry).as_bytes());
                    self.printed += 1;
                }
            }
            EntryFormat::Ndjson => {
                for entry in entries {
                    text.extend_from_slice(line_of(entry).as_bytes());
                    text.push(b'\n');
                }
            }
            EntryFormat::Csv => {
                if self.printed == 0 {
                    text.extend_from_slice(csv::COLUMNS.as_bytes());
                }
                self.printed += 1;
                for entry in entries {
                    csv_row(entry, &mut text)?;
                }
            }
        }
        Ok(text)
    }

    /// What to print at the end: how many there are in all, where that is known, and what is missing.
    pub(super) fn end(&self, total_items: Option<u64>, gaps: &[Box<RawValue>]) -> String {
        let gaps = gaps.iter().map(|gap| line_of(gap));
        match self.format {
            EntryFormat::Table | EntryFormat::Csv => String::new(),
            EntryFormat::Json => {
                let begin = if self.printed == 0 { "{\"items\":[" } else { "\n" };
                let total_items = total_items.map_or(String::new(), |total| format!(",\"total_items\":{total}"));
                let gaps: Vec<_> = gaps.collect();
                let gaps = if gaps.is_empty() { String::new() } else { format!(",\"gaps\":[{}]", gaps.join(",")) };
                format!("{begin}]{total_items}{gaps}}}\n")
            }
            EntryFormat::Ndjson => gaps.flat_map(|gap| ["{\"gap\":".into(), gap, "}\n".into()]).collect(),
        }
    }

    fn rows(&mut self, entries: &[&RawValue], text: &mut Vec<u8>) -> Result<(), String> {
        let shown = |entry: &&RawValue| serde_json::from_str::<Shown>(entry.get());
        let shown = entries.iter().map(shown).collect::<Result<Vec<_>, _>>();
        let shown = shown.map_err(|error| format!("an entry of it is none: {error}"))?;
        let is_first = self.table.is_none();
        let table = self.table.get_or_insert_with(|| EntryTable::new(Terminal::of_output(), &shown));
        if is_first {
            text.extend_from_slice(table.head().as_bytes());
        }
        for entry in &shown {
            text.extend_from_slice(table.row(entry).as_bytes());
        }
        Ok(())
    }
}

/// The same row that an export has.
fn csv_row(entry: &RawValue, text: &mut Vec<u8>) -> Result<(), String> {
    let entry = serde_json::from_str::<serde_json::Map<String, Value>>(entry.get());
    let entry = entry.map_err(|error| format!("an entry of it is none: {error}"))?;
    let mut row = csv::Row::new();
    for column in csv::COLUMNS.trim_end().split(',') {
        match entry.get(column) {
            None | Some(Value::Null) => row.plain(""),
            Some(Value::String(value)) => row.text(value),
            Some(Value::Array(values)) => {
                let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
                row.text(&values.join(" "));
            }
            Some(value @ (Value::Number(_) | Value::Bool(_))) => row.plain(value),
            Some(Value::Object(_)) => return Err(format!("the {column} of an entry is none")),
        }
    }
    row.end(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_object_of_entries_is_one_of_json_whatever_is_in_it() {
        let gap = raw("{\"reason\":\"evicted\"}");
        for entries in [&[][..], &["{\"seq\":1}"], &["{\"seq\":1}", "{\"seq\":2}"]] {
            let entries: Vec<_> = entries.iter().map(|text| raw(text)).collect();
            let borrowed: Vec<_> = entries.iter().map(AsRef::as_ref).collect();
            let mut printer = EntryPrinter::new(EntryFormat::Json);
            let mut text = printer.entries(&borrowed).unwrap();
            text.extend(printer.end(Some(9), std::slice::from_ref(&gap)).into_bytes());
            let read: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(read["items"].as_array().unwrap().len(), entries.len());
            assert_eq!((&read["total_items"], &read["gaps"][0]["reason"]), (&9.into(), &"evicted".into()));
        }
    }

    #[test]
    fn a_row_of_csv_runs_nothing_in_a_spreadsheet() {
        let entry = raw(
            r#"{"id":"x","user":"=1+1","roles":["a","-b"],"seq":7,"monotonic_us":-5,"clock_synced":false,"other":{}}"#,
        );
        let mut text = Vec::new();
        csv_row(&entry, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("x,,'=1+1,\"a -b\",,,,,,,7,"), "{text}");
        assert!(text.contains(",-5,") && text.contains(",false,") && text.ends_with("\r\n"), "{text}");
        assert_eq!(text.matches(',').count(), csv::COLUMNS.matches(',').count());
        assert!(csv_row(&raw(r#"{"user":{}}"#), &mut Vec::new()).is_err());
    }
}
