//! The names under which the queue finds what it needs.

pub(crate) mod class {
    pub(crate) use nodeaudit::audit::Class;
}

pub(crate) mod entry {
    pub(crate) use nodeaudit::audit::{Arrival, Call, Entry, Outcome, Seq};
}

pub(crate) mod ring {
    pub(crate) use nodeaudit::audit::ring::{IntentNumber, Record};
}

mod writer;
