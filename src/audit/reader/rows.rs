//! Rows of the ring file as entries.

use std::borrow::Cow;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::{ClassFacts, Held, Oldest};
use crate::audit::class::Class;
use crate::audit::entry::{EntryId, Outcome, Seq, ServedEntry};
use crate::audit::ring::{COMMON_COLUMNS, Named, Sum, damaged};
use crate::auth::AuthMethod;
use crate::hexadecimal;

/// A run of the agent: the boot it ran in and the tag of the IDs that it gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    boot_id: Uuid,
    tag: u32,
}

/// Operation ID and permission.
type OperationNames = Arc<(Box<str>, Box<str>)>;

/// So many seqs are remembered: enough for the way to any page of the largest ring.
const SEQS_REMEMBERED: usize = 4096;

/// Of what entries have in common so many rows are remembered: those of a page, or of some extents.
const COMMONS_REMEMBERED: usize = 256;

/// What the ring says of its rows.
#[derive(Clone, Copy, Debug)]
struct Facts {
    epoch: [u8; 16],
    /// Up to this seq rows may have no sum.
    sums_after: Option<u64>,
    /// Up to this seq rows hold their call themselves.
    calls_inline_until: Option<u64>,
}

/// What never changes once it is stored, and so is read once a connection.
#[derive(Debug, Default)]
pub(super) struct Memory {
    facts: Option<Facts>,
    // Few, and asked for with each row: cheaper to find by order than by hash.
    runs: BTreeMap<i64, Run>,
    operations: BTreeMap<i64, OperationNames>,
    commons: BTreeMap<(Class, u64), Common>,
    seqs: HashMap<(usize, u64), u64>,
}

impl Memory {
    /// The seq of the entry with that ordinal.
    pub(super) fn seq_at(
        &mut self,
        transaction: &Transaction<'_>,
        class: Class,
        ordinal: u64,
    ) -> rusqlite::Result<u64> {
        let key = (class.index(), ordinal);
        if let Some(&seq) = self.seqs.get(&key) {
            return Ok(seq);
        }
        // The whole row is checked: a wrong seq would lead to a wrong page.
        let seq = with_row(transaction, self, class, ordinal, |values, _| values.get(SEQ))?;
        if self.seqs.len() >= SEQS_REMEMBERED {
            self.seqs.clear();
        }
        self.seqs.insert(key, seq);
        Ok(seq)
    }

    /// Up to which seq rows may hold their call themselves, where some do.
    pub(super) fn calls_inline_until(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<u64>> {
        Ok(self.facts(transaction)?.calls_inline_until)
    }

    fn facts(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Facts> {
        if let Some(facts) = self.facts {
            return Ok(facts);
        }
        let sql = "SELECT epoch, sums_after, calls_inline_until FROM ring";
        let facts = transaction.query_row(sql, [], |row| {
            Ok(Facts { epoch: row.get(0)?, sums_after: row.get(1)?, calls_inline_until: row.get(2)? })
        })?;
        Ok(*self.facts.insert(facts))
    }

    fn run(&mut self, transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<Run> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(*run);
        }
        let run = transaction
            .prepare_cached("SELECT boot_id, tag FROM run WHERE number = ?1")?
            .query_row([number], |row| Ok(Run { boot_id: Uuid::from_bytes(row.get(0)?), tag: row.get(1)? }))?;
        self.runs.insert(number, run);
        Ok(run)
    }

    fn operation(&mut self, transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<OperationNames> {
        match self.operations.entry(number) {
            Occupied(names) => Ok(Arc::clone(names.get())),
            Vacant(unread) => {
                let names = transaction
                    .prepare_cached("SELECT operation_id, permission FROM operation WHERE number = ?1")?
                    .query_row([number], |row| {
                        Ok((row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into()))
                    })?;
                Ok(Arc::clone(unread.insert(Arc::new(names))))
            }
        }
    }

    /// What the entries of a class that name this number have in common.
    fn common(&mut self, transaction: &Transaction<'_>, class: Class, number: u64) -> rusqlite::Result<&Common> {
        let key = (class, number);
        if !self.commons.contains_key(&key) {
            let sql = format!("SELECT {COMMON_COLUMNS} FROM {}_common WHERE number = ?1", class.as_str());
            let mut statement = transaction.prepare_cached(&sql)?;
            let mut rows = statement.query([number])?;
            let row = rows.next()?.ok_or_else(|| damaged("an entry names what is not there"))?;
            let mut values = [ValueRef::Null; COMMON];
            for (column, value) in values.iter_mut().enumerate() {
                *value = row.get_ref(column)?;
            }
            let common = Common::read(transaction, self, class, &Values(&values))?;
            if self.commons.len() >= COMMONS_REMEMBERED {
                self.commons.clear();
            }
            self.commons.insert(key, common);
        }
        Ok(&self.commons[&key])
    }
}

/// What a row has in common with others: who called from where, and what.
#[derive(Debug)]
struct Common {
    run: Run,
    method: Box<str>,
    path: Box<str>,
    operation: Option<OperationNames>,
    user: Box<str>,
    roles: Box<str>,
    token_id: Option<Box<str>>,
    auth_method: Option<&'static str>,
    source_ip: IpAddr,
    user_agent: Option<Box<str>>,
    /// The sum of what is named.
    named: Sum,
    /// The sum of that and of these values.
    sum: Sum,
}

impl Common {
    /// Reads it from values in the order of [`COMMON_COLUMNS`].
    fn read(
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        class: Class,
        values: &Values<'_>,
    ) -> rusqlite::Result<Self> {
        let epoch = memory.facts(transaction)?.epoch;
        let run = memory.run(transaction, values.get(0)?)?;
        let operation = match values.get(3)? {
            Some(number) => Some(memory.operation(transaction, number)?),
            None => None,
        };
        let named = Named {
            epoch: &epoch,
            table: class as i64,
            boot_id: run.boot_id.as_bytes(),
            tag: run.tag,
            operation: operation.as_deref().map(|names| (&*names.0, &*names.1)),
        };
        let named = named.sum();
        let mut sum = named;
        for &value in values.0 {
            sum.add(value);
        }
        let auth_method = match values.get::<usize>(7)? {
            0 => None,
            number => Some(AuthMethod::ALL.get(number - 1).ok_or_else(|| damaged("no such authentication"))?.as_str()),
        };
        Ok(Self {
            run,
            method: values.text(1)?.into(),
            path: values.text(2)?.into(),
            operation,
            user: values.text(4)?.into(),
            roles: values.text(5)?.into(),
            token_id: values.optional_text(6)?.map(Box::from),
            auth_method,
            source_ip: values.address(8)?.ok_or_else(|| damaged("no such address"))?,
            user_agent: values.optional_text(9)?.map(Box::from),
            named,
            sum,
        })
    }
}

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
fn with_row<T>(
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

/// How many values are what rows have in common.
const COMMON: usize = 10;

/// The values of a row in the order in which they are added to its sum, behind what it has in common with others.
const SUMMED: [usize; 12] = [
    TIMESTAMP,
    MONOTONIC,
    CLOCK_SYNCED,
    TRACE_ID,
    FORWARDED_FOR,
    ORDINAL,
    SEQ,
    OUTCOME,
    RESPONSE_CODE,
    DURATION,
    CALLS,
    SPAN,
];

/// The same for a row that holds its call itself.
const SUMMED_INLINE: [usize; 22] = [
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
    ORDINAL,
    SEQ,
    OUTCOME,
    RESPONSE_CODE,
    DURATION,
    CALLS,
    SPAN,
];

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
        Ok(if memory.calls_inline_until(transaction)?.is_some() { Self::Inline } else { Self::Own })
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
            Self::Inline => INLINE + COMMON,
        }
    }
}

/// The values of a row, each asked for once: asking is much of what serving a row costs.
struct Values<'r>(&'r [ValueRef<'r>]);

impl<'r> Values<'r> {
    fn get<T: FromSql>(&self, column: usize) -> rusqlite::Result<T> {
        T::column_result(self.0[column]).map_err(|_| damaged("a value is of another kind than what was stored"))
    }

    fn text(&self, column: usize) -> rusqlite::Result<&'r str> {
        self.optional_text(column)?.ok_or_else(|| damaged("a text is missing"))
    }

    fn optional_text(&self, column: usize) -> rusqlite::Result<Option<&'r str>> {
        self.0[column].as_str_or_null().map_err(|_| damaged("what has to be a text is none"))
    }

    fn octets(&self, column: usize) -> rusqlite::Result<Option<&'r [u8]>> {
        self.0[column].as_blob_or_null().map_err(|_| damaged("what has to be octets is none"))
    }

    fn address(&self, column: usize) -> rusqlite::Result<Option<IpAddr>> {
        let Some(octets) = self.octets(column)? else {
            return Ok(None);
        };
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
        address.map(Some).map_err(|_| damaged("no such address"))
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
    let mut values = [ValueRef::Null; INLINE + COMMON];
    for (column, value) in values[..columns.count()].iter_mut().enumerate() {
        *value = row.get_ref(column)?;
    }
    let values = Values(&values);
    let sums_after = memory.facts(transaction)?.sums_after;
    let inline;
    let (common, mut sum, summed) = match values.get::<Option<u64>>(COMMON_NUMBER)? {
        Some(number) => {
            let common = memory.common(transaction, class, number)?;
            (common, common.sum, &SUMMED[..])
        }
        None if columns == Columns::Inline => {
            inline = Common::read(transaction, memory, class, &Values(&values.0[INLINE..]))?;
            (&inline, inline.named, &SUMMED_INLINE[..])
        }
        None => return Err(damaged("an entry names nothing")),
    };
    for &column in summed {
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
