//! Rows of the ring file as entries: which columns are asked for, whether a row is what was stored, what it is served as.

use std::borrow::Cow;
use std::ops::Range;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction, params};

use super::common::{COMMON_VALUES, Common};
use super::memory::Memory;
use super::values::Values;
use super::{ClassFacts, Held, Oldest};
use crate::audit::class::Class;
use crate::audit::entry::{EntryId, Outcome, Seq, ServedEntry};
use crate::audit::ring::{COMMON_COLUMNS, damaged};
use crate::hexadecimal;

/// The first ordinal of a range whose entry has that seq or a higher one; the end of the range where there is none.
pub(super) fn place_of(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    seq: Seq,
    range: Range<u64>,
) -> rusqlite::Result<u64> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if memory.seq_at(transaction, class, middle)? < seq.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Visits one entry.
pub(super) fn one(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    ordinal: u64,
    visit: &mut dyn FnMut(&ServedEntry<'_>),
) -> rusqlite::Result<()> {
    with_row(transaction, memory, class, ordinal, |values, common| show(class, values, common, visit))
}

/// Reads and checks the row at that ordinal.
pub(super) fn with_row<T>(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    ordinal: u64,
    read: impl FnOnce(&Values<'_>, &Common) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let columns = Columns::of(transaction, memory)?;
    let mut statement = transaction.prepare_cached(&columns.select(class, "WHERE ordinal = ?1"))?;
    let mut rows = statement.query([ordinal])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    checked(transaction, memory, class, ordinal, row, columns, read)
}

/// What the file says of one class that holds `held`.
pub(super) fn class_facts(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    held: Held,
) -> rusqlite::Result<ClassFacts> {
    let (mut oldest, mut newest) = (None, None);
    if held.entries() > 0 {
        oldest = Some(with_row(transaction, memory, class, held.first, |values, common| {
            let (timestamp_ms, monotonic_us) = (values.get(TIMESTAMP)?, values.get(MONOTONIC)?);
            Ok(Oldest { seq: Seq(values.get(SEQ)?), timestamp_ms, monotonic_us, boot_id: common.run.boot_id })
        })?);
        newest = Some(Seq(with_row(transaction, memory, class, held.last, |values, _| values.get(SEQ))?));
    }
    let sql = "SELECT evicted, dropped, interrupted, coalesced, evicted_calls, lost FROM loss WHERE class = ?1";
    transaction.query_row(sql, params![class.index()], |row| {
        Ok(ClassFacts {
            class,
            entries: held.entries(),
            oldest,
            newest,
            evicted: row.get(0)?,
            dropped: row.get(1)?,
            interrupted: row.get(2)?,
            coalesced: row.get(3)?,
            evicted_calls: row.get(4)?,
            lost: row.get(5)?,
        })
    })
}

// The columns of an entry's row, as they are selected.
pub(super) const SEQ: usize = 0;
const OUTCOME: usize = 1;
const RESPONSE_CODE: usize = 2;
const DURATION: usize = 3;
const TIMESTAMP: usize = 4;
const MONOTONIC: usize = 5;
const CLOCK_SYNCED: usize = 6;
const TRACE_ID: usize = 7;
const FORWARDED_FOR: usize = 8;
const CALLS: usize = 9;
const SPAN: usize = 10;
pub(super) const ORDINAL: usize = 11;
const COMMON_NUMBER: usize = 12;
const SUM: usize = 13;
/// Where a row that holds its call itself has what others name, in the order of [`COMMON_COLUMNS`].
const INLINE: usize = 14;

/// What a row has of its own of the call, in the order in which it is added to the sum behind what it has in common with others.
const OWN: [usize; 5] = [TIMESTAMP, MONOTONIC, CLOCK_SYNCED, TRACE_ID, FORWARDED_FOR];

/// The call of a row that holds it itself, in that order.
const INLINE_CALL: [usize; 15] = [
    INLINE,
    TIMESTAMP,
    MONOTONIC,
    CLOCK_SYNCED,
    INLINE + 1,
    INLINE + 2,
    INLINE + 3,
    INLINE + 4,
    INLINE + 5,
    INLINE + 6,
    INLINE + 7,
    INLINE + 8,
    TRACE_ID,
    INLINE + 9,
    FORWARDED_FOR,
];

/// What is added behind either.
const ENDING: [usize; 7] = [ORDINAL, SEQ, OUTCOME, RESPONSE_CODE, DURATION, CALLS, SPAN];

/// Which columns the rows of a ring can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Those of the present schema.
    Own,
    /// Those of the call too: some rows hold it themselves.
    Inline,
}

impl Columns {
    /// Those of this ring.
    pub(super) fn of(transaction: &Transaction<'_>, memory: &mut Memory) -> rusqlite::Result<Self> {
        Ok(if memory.facts(transaction)?.calls_inline_until.is_some() { Self::Inline } else { Self::Own })
    }

    /// The statement that selects rows of a class.
    pub(super) fn select(self, class: Class, clause: &str) -> String {
        // Only refused calls are stored several in one entry.
        let several = if class == Class::Denied { "calls, span_us" } else { "1, 0" };
        let inline = if self == Self::Inline { format!(", {COMMON_COLUMNS}") } else { String::new() };
        format!(
            "SELECT seq, outcome, response_code, duration_us, timestamp_ms, monotonic_us, clock_synced, trace_id, forwarded_for, \
                {several}, ordinal, common, sum{inline} FROM {} {clause}",
            class.as_str()
        )
    }

    const fn count(self) -> usize {
        match self {
            Self::Own => INLINE,
            Self::Inline => INLINE + COMMON_VALUES,
        }
    }
}

/// Checks that a row is what was stored at that ordinal, by its sum, and reads it.
fn checked<T>(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    ordinal: u64,
    row: &Row<'_>,
    columns: Columns,
    read: impl FnOnce(&Values<'_>, &Common) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut values = [ValueRef::Null; INLINE + COMMON_VALUES];
    for (column, value) in values[..columns.count()].iter_mut().enumerate() {
        *value = row.get_ref(column)?;
    }
    let values = Values(&values);
    let sums_after = memory.facts(transaction)?.sums_after;
    let inline;
    let (common, mut sum, call) = match values.get::<Option<u64>>(COMMON_NUMBER)? {
        Some(number) => {
            let common = memory.common(transaction, class, number)?;
            (common, common.sum, &OWN[..])
        }
        None if columns == Columns::Inline => {
            inline = Common::read(transaction, memory, class, &Values(&values.0[INLINE..]))?;
            (&inline, inline.named, &INLINE_CALL[..])
        }
        None => return Err(damaged("an entry names nothing")),
    };
    for &column in call.iter().chain(&ENDING) {
        sum.add(values.0[column]);
    }
    let is_right = match values.get::<Option<i64>>(SUM)? {
        Some(stored) => stored == sum.value(),
        None => sums_after.is_some_and(|after| values.get::<u64>(SEQ).is_ok_and(|seq| seq <= after)),
    };
    if is_right && values.get::<u64>(ORDINAL)? == ordinal {
        read(&values, common)
    } else {
        Err(damaged("an entry is not what was stored"))
    }
}

/// Shows the row at that ordinal to the visitor as an entry.
pub(super) fn serve(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    ordinal: u64,
    row: &Row<'_>,
    columns: Columns,
    visit: &mut dyn FnMut(&ServedEntry<'_>),
) -> rusqlite::Result<()> {
    checked(transaction, memory, class, ordinal, row, columns, |values, common| show(class, values, common, visit))
}

fn show(
    class: Class,
    values: &Values<'_>,
    common: &Common,
    visit: &mut dyn FnMut(&ServedEntry<'_>),
) -> rusqlite::Result<()> {
    let seq = Seq(values.get(SEQ)?);
    let outcome = Outcome::ALL.get(values.get::<usize>(OUTCOME)?).copied().ok_or_else(|| damaged("no such outcome"))?;
    let duration_us = values.get::<u64>(DURATION)?;
    let timestamp: i64 = values.get(TIMESTAMP)?;
    let (calls, span_us) = (values.get::<u64>(CALLS)?, values.get::<i64>(SPAN)?);
    visit(&ServedEntry {
        id: EntryId::new(timestamp, class, seq, common.run.tag),
        timestamp,
        user: &common.user,
        roles: &common.roles,
        method: &common.method,
        path: &common.path,
        operation_id: common.operation.as_deref().map_or("", |names| &names.0),
        source_ip: common.source_ip,
        response_code: values.get(RESPONSE_CODE)?,
        duration_ms: duration_us / 1_000,
        seq,
        class,
        outcome,
        permission: common.operation.as_deref().map(|names| &*names.1),
        token_id: common.token_id.as_deref(),
        auth_method: common.auth_method,
        trace_id: values.octets(TRACE_ID)?.map(hexadecimal::encode).map(Cow::Owned),
        user_agent: common.user_agent.as_deref(),
        forwarded_for: values.address(FORWARDED_FOR)?,
        boot_id: common.run.boot_id,
        monotonic_us: values.get(MONOTONIC)?,
        duration_us,
        clock_synced: values.get(CLOCK_SYNCED)?,
        count: (calls > 1).then_some(calls),
        last_timestamp: (calls > 1).then_some(timestamp + span_us / 1_000),
    });
    Ok(())
}
