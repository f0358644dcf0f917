//! What the writer hands to the ring, one thing at a time.

use super::{IntentNumber, common, intent, rows};
use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry, Seq};

/// One thing to store.
#[derive(Clone, Debug)]
pub enum Record {
    /// A change that is about to happen.
    Intent(IntentNumber, Call),
    /// A finished call, and the intent that it closes.
    Entry(Seq, Entry, Option<IntentNumber>),
    /// So many calls of a class could not be recorded.
    Dropped(Class, u64),
}

impl Record {
    /// The entry, if it is one.
    pub const fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(_, entry, _) => Some(entry),
            Self::Intent(..) | Self::Dropped(..) => None,
        }
    }

    /// The seq of the entry, if it is one and no reading of the log.
    pub fn news(&self) -> Option<Seq> {
        match self {
            Self::Entry(seq, entry, _) => (!entry.is_reading_of_log()).then_some(*seq),
            Self::Intent(..) | Self::Dropped(..) => None,
        }
    }

    /// The seq of the entry, if it is one.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Entry(seq, ..) => Some(*seq),
            Self::Intent(..) | Self::Dropped(..) => None,
        }
    }

    /// What the record takes in the ring file, an upper bound: where an extent begins, what it has in common with others is stored anew.
    pub fn bytes(&self) -> usize {
        let bytes = match self {
            Self::Intent(_, call) => intent::row_bytes(call),
            Self::Entry(_, entry, _) => rows::row_bytes(entry.class, &entry.call) + common::row_bytes(&entry.call),
            Self::Dropped(..) => 0,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
