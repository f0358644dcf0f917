//! `nodeaudit audit get`

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ObjectFormat;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::print;
use crate::cli::remote::{Remote, block_on};
use crate::client::{PAGE_MAX_BYTES, line_of, printable};

#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    /// The entry's ID, as in the header Audit-Id of the answer to its call
    id: uuid::Uuid,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = ObjectFormat::Table)]
    output: ObjectFormat,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct OneEntry<'a> {
    #[serde(borrow)]
    entry: &'a RawValue,
}

impl Get {
    pub(super) fn run(self) -> Result<(), CliError> {
        block_on(async {
            let mut caller = self.remote.caller()?;
            let path = format!("/audit/{}", self.id);
            let answer = caller.get(&path, &[], Duration::ZERO).await?;
            let body = answer.whole(PAGE_MAX_BYTES, "an entry").await?;
            let foreign = |error: serde_json::Error| caller.foreign(format!("its entry is none: {error}"));
            let entry = serde_json::from_slice::<OneEntry<'_>>(&body).map_err(foreign)?.entry;
            match self.output {
                ObjectFormat::Json => print(&format!("{}\n", line_of(entry))),
                ObjectFormat::Table => {
                    let fields =
                        serde_json::from_str::<serde_json::Map<String, Value>>(entry.get()).map_err(foreign)?;
                    print(&table(&fields))
                }
            }
        })
        .map_err(|error| match error.exit() {
            Exit::NoInput => error.with_hint("it may have aged out of the ring"),
            _ => error,
        })
    }
}

/// A field a line.
fn table(fields: &serde_json::Map<String, Value>) -> String {
    let widest = fields.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    let line = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        format!("{:<widest$}  {}", printable(name), printable(&value)).trim_end().to_owned() + "\n"
    };
    fields.iter().map(line).collect()
}
