//! One value for one key, and where it was set.
//!
//! Owns how files, variables and flags turn into settings, all of the same form, so that what is refused can be told with
//! its place. Knows no key by name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// What the names of the agent's environment variables begin with.
const VARIABLE_PREFIX: &str = "NODEAUDIT_";

/// The address of the agent that `nodeaudit audit` calls: no setting.
pub const URL_VARIABLE: &str = "NODEAUDIT_URL";

/// The token that it shows: no setting, and a secret.
pub const TOKEN_VARIABLE: &str = "NODEAUDIT_TOKEN";

/// A value for a key. Tables are not values, but for empty ones: they hold settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// The tables down to the key, and the key.
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file, counted from 1; none where the file as a whole is meant.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why a configuration is refused, in one line: `origin: key: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub origin: Origin,
    /// The key with its tables, as `audit.max_entries`; none where a file can't be read or parsed.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.origin, self.message),
            None => write!(f, "{}: {}", self.origin, self.message),
        }
    }
}

impl Setting {
    /// A setting that a flag stands for.
    pub(super) fn flag(name: &'static str, key: &str, value: impl Into<Value>) -> Self {
        Self { path: key.split('.').map(str::to_owned).collect(), value: value.into(), origin: Origin::Flag(name) }
    }

    /// The key with its tables, as `audit.max_entries`.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// What is wrong with this setting.
    pub(super) fn problem(&self, message: String) -> Problem {
        Problem { origin: self.origin.clone(), key: Some(self.key()), message }
    }

    /// Whether there is a table in `tree` where this setting has another value. Serde would take a list for it.
    pub(super) fn replaces_table_in(&self, tree: &Table) -> bool {
        let (first, rest) = self.path.split_first().expect("a setting has a key");
        let there = rest.iter().try_fold(tree.get(first), |value, name| Some(value?.get(name)));
        !self.value.is_table() && there.flatten().is_some_and(Value::is_table)
    }

    /// Puts the value into `tree`; a value that is in the way of the key's tables gives way.
    pub(super) fn insert_into(&self, tree: &mut Table) {
        let (last, tables) = self.path.split_last().expect("a setting has a key");
        let mut table = tree;
        for name in tables {
            let below = table.entry(name).or_insert_with(|| Table::new().into());
            if !below.is_table() {
                *below = Table::new().into();
            }
            table = below.as_table_mut().expect("made a table above");
        }
        // An empty table adds nothing to one that is there.
        let adds_nothing = is_empty_table(&self.value) && table.get(last).is_some_and(Value::is_table);
        if !adds_nothing {
            table.insert(last.clone(), self.value.clone());
        }
    }
}

/// The settings in a file's text, in its order.
pub(super) fn in_file(path: &Path, text: &str) -> Result<Vec<Setting>, Problem> {
    let at = |offset: usize| Origin::File(path.to_owned(), Some(line_at(text, offset)));
    let root = DeTable::parse(text).map_err(|error| Problem {
        origin: error.span().map_or(Origin::File(path.to_owned(), None), |span| at(span.start)),
        key: None,
        message: error.message().to_owned(),
    })?;
    let mut found = Vec::new();
    flatten(root.into_inner(), &mut Vec::new(), &mut found);
    found.sort_by_key(|&(offset, ..)| offset);
    let settings = found.into_iter().map(|(offset, path, value)| match value {
        Ok(value) => Ok(Setting { path, value, origin: at(offset) }),
        Err(message) => Err(Problem { origin: at(offset), key: Some(path.join(".")), message }),
    });
    settings.collect()
}

/// The settings in an environment: those variables whose names begin with `NODEAUDIT_`, sorted by name.
///
/// `NODEAUDIT_AUDIT__MAX_ENTRIES` sets `audit.max_entries`. Each variable gives the readings of its value, of which the first
/// that fits is meant: as TOML, and as the text it is.
pub(super) fn in_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<Result<Vec<Setting>, Problem>> {
    let mut variables: Vec<_> = variables.into_iter().collect();
    variables.sort();
    variables.iter().filter_map(|(name, value)| in_variable(name, value)).collect()
}

fn in_variable(name: &OsStr, value: &OsStr) -> Option<Result<Vec<Setting>, Problem>> {
    let name = name.to_string_lossy();
    if [URL_VARIABLE, TOKEN_VARIABLE].contains(&&*name) {
        return None;
    }
    let key = name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase();
    let origin = Origin::Variable(name.clone().into_owned());
    let Some(text) = value.to_str() else {
        let message = "is not UTF-8".to_owned();
        return Some(Err(Problem { origin, key: None, message }));
    };
    let as_toml = DeValue::parse(text).ok().and_then(|value| owned(value).ok());
    let readings = as_toml.into_iter().chain([Value::from(text)]).map(|value| Setting {
        path: key.split("__").map(str::to_owned).collect(),
        value,
        origin: origin.clone(),
    });
    Some(Ok(readings.collect()))
}

/// Where a key begins, the key, and its value or what is wrong with that: the parser lets numbers pass that are none, as `0x`.
type Found = (usize, Vec<String>, Result<Value, String>);

/// Adds every value below `table`.
fn flatten(table: DeTable<'_>, above: &mut Vec<String>, found: &mut Vec<Found>) {
    for (name, value) in table {
        let offset = name.span().start;
        above.push(name.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(below) if !below.is_empty() => flatten(below, above, found),
            value => found.push((offset, above.clone(), owned(Spanned::new(0..0, value)))),
        }
        above.pop();
    }
}

fn owned(value: Spanned<DeValue<'_>>) -> Result<Value, String> {
    Value::deserialize(value.into_deserializer()).map_err(|error| error.message().trim_end().to_owned())
}

fn is_empty_table(value: &Value) -> bool {
    value.as_table().is_some_and(Table::is_empty)
}

/// The line of a byte, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}
