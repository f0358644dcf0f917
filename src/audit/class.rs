//! Retention classes and durabilities.
//!
//! Owns which calls share a part of the ring. Knows neither how a class is stored nor how long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The retention class of an entry. Each has a guaranteed share of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Authorised calls with a method that is not safe.
    Change,
    /// Authorised safe calls of authenticated callers, and calls of authenticated callers that name no operation: they can change nothing.
    Read,
    /// Calls of nobody in particular: refused ones, malformed ones, and anonymous ones that change nothing, such as `GET /health`.
    Denied,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Change, Self::Read, Self::Denied];

    /// The class's place in arrays and its number in entry IDs and in the ring file. Never changes.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class as served, as configured, and the name of its table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Read => "read",
            Self::Denied => "denied",
        }
    }
}

/// When the caller is answered, seen from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After the entry is on stable storage.
    Strict,
    /// At once; the entry is on stable storage at the latest when the class's window has passed.
    Relaxed,
}
