//! Rows of entries in the ring file. Each has the sum of its values and of what it names.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

use super::bind::{Octets, Row};
use super::common::Common;
use super::sum::Named;
use crate::audit::budget;
use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry, Outcome, Seq};

/// A statement that is run for every entry is not formatted each time.
macro_rules! insert_into {
    ($table:literal, $several:literal, $parameters:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (timestamp_ms, monotonic_us, clock_synced, trace_id, forwarded_for, ordinal, seq, outcome, response_code, duration_us",
            $several,
            ", common, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12",
            $parameters,
            ")"
        )
    };
}

/// What a row takes beside trace ID and forwarded address: record header, numbers, sum, cell pointer.
pub(super) const fn fixed_bytes(class: Class) -> u64 {
    match class {
        Class::Change | Class::Read => 54,
        // For how many calls it stands, and their span.
        Class::Denied => 62,
    }
}

/// What an entry's row is charged, in SQL.
pub(super) fn charge_sql(class: Class) -> String {
    let fixed_bytes = fixed_bytes(class);
    budget::charge_sql(&format!("{fixed_bytes} + coalesce(length(trace_id), 0) + coalesce(length(forwarded_for), 0)"))
}

/// The size of an entry's row without what it has in common with others, an upper bound.
pub(super) fn row_bytes(class: Class, call: &Call) -> u64 {
    fixed_bytes(class) + value_bytes(call)
}

/// The size of its trace ID and its forwarded address.
pub(super) fn value_bytes(call: &Call) -> u64 {
    let address = call.forwarded_for.map_or(0, |ip| Octets::of(ip).as_bytes().len());
    (address + call.trace_id.map_or(0, |id| id.len())) as u64
}

/// A run of the agent: its number, and what names it in the sums of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) number: i64,
    pub(super) epoch: [u8; 16],
    pub(super) boot_id: [u8; 16],
    pub(super) tag: u32,
}

impl Run {
    pub(super) fn named<'a>(&'a self, table: i64, call: &'a Call) -> Named<'a> {
        let operation = call.operation.map(|operation| (operation.id, operation.permission.as_str()));
        Named { epoch: &self.epoch, table, boot_id: &self.boot_id, tag: self.tag, operation }
    }
}

/// The statement that stores entries of a class.
pub(super) fn insert_into(connection: &Connection, class: Class) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(match class {
        Class::Change => insert_into!("change", "", ""),
        Class::Read => insert_into!("read", "", ""),
        Class::Denied => insert_into!("denied", ", calls, span_us", ", ?13, ?14"),
    })
}

/// The statements that store entries. Each is prepared once for all entries of a transaction: to look for it anew for each of them
/// costs a sixth of what it takes to store one.
pub(super) struct Inserts<'t> {
    connection: &'t Connection,
    by_class: [Option<CachedStatement<'t>>; 3],
}

impl<'t> Inserts<'t> {
    pub(super) const fn new(connection: &'t Connection) -> Self {
        Self { connection, by_class: [None, None, None] }
    }

    pub(super) fn entry(&mut self, ordinal: u64, seq: Seq, entry: &Entry, common: Common) -> rusqlite::Result<()> {
        let statement = match &mut self.by_class[entry.class.index()] {
            Some(statement) => statement,
            unprepared => unprepared.insert(insert_into(self.connection, entry.class)?),
        };
        let mut row = Row::new(statement, common.sum);
        let (call, arrival) = (&entry.call, &entry.call.arrival);
        row.bind_value(ValueRef::Integer(arrival.timestamp_ms))?;
        row.bind_value(ValueRef::Integer(arrival.monotonic_us))?;
        row.bind(arrival.clock_synced.into())?;
        row.bind_octets(call.trace_id.map(Octets::V6))?;
        row.bind_octets(call.forwarded_for.map(Octets::of))?;
        end(row, entry.class, ordinal, seq, common, Ending::of(entry))
    }
}

/// How a call ended.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    outcome: Outcome,
    response_code: u16,
    duration_us: u64,
    calls: u64,
    span_us: u64,
}

impl Ending {
    /// Without a response.
    pub(super) const fn unknown(outcome: Outcome) -> Self {
        Self { outcome, response_code: 0, duration_us: 0, calls: 1, span_us: 0 }
    }

    fn of(entry: &Entry) -> Self {
        let Entry { outcome, response_code, duration_us, calls, span_us, .. } = *entry;
        Self { outcome, response_code, duration_us, calls, span_us }
    }
}

/// Stores a row to which the call's own values are bound.
pub(super) fn end(
    mut row: Row<'_, '_>,
    class: Class,
    ordinal: u64,
    seq: Seq,
    common: Common,
    ending: Ending,
) -> rusqlite::Result<()> {
    row.bind(ordinal)?;
    row.bind(seq.0)?;
    row.bind(ending.outcome as u64)?;
    row.bind(ending.response_code.into())?;
    row.bind(ending.duration_us)?;
    if class == Class::Denied {
        row.bind(ending.calls)?;
        row.bind(ending.span_us)?;
    } else {
        row.always(1);
        row.always(0);
    }
    row.bind_apart(common.number.0.cast_signed())?;
    row.execute_with_sum()
}
