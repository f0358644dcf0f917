//! Rows of the ring file as entries.

use std::borrow::Cow;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::{ClassFacts, Held, Oldest};
use crate::audit::class::Class;
use crate::audit::entry::{EntryId, Outcome, Seq, ServedEntry};
use crate::audit::ring::{CALL_COLUMNS, Named, damaged};
use crate::auth::AuthMethod;
use crate::hexadecimal;

/// A run of the agent: the boot it ran in and the tag of the IDs that it gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    boot_id: Uuid,
    tag: u32,
}

/// Operation ID and permission.
type OperationNames = (Box<str>, Box<str>);

/// So many seqs are remembered: enough for the way to any page of the largest ring.
const SEQS_REMEMBERED: usize = 4096;

/// What the ring says of the sums of its rows.
#[derive(Clone, Copy, Debug)]
struct Sums {
    epoch: [u8; 16],
    /// Up to this seq rows may have none.
    after: Option<u64>,
}

/// What never changes once it is stored, and so is read once a connection.
#[derive(Debug, Default)]
pub(super) struct Memory {
    sums: Option<Sums>,
    // Few, and asked for with each row: cheaper to find by order than by hash.
    runs: BTreeMap<i64, Run>,
    operations: BTreeMap<i64, OperationNames>,
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
        let seq = seq_at(transaction, self, class, ordinal)?;
        if self.seqs.len() >= SEQS_REMEMBERED {
            self.seqs.clear();
        }
        self.seqs.insert(key, seq);
        Ok(seq)
    }

    fn sums(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Sums> {
        if let Some(sums) = self.sums {
            return Ok(sums);
        }
        let sql = "SELECT epoch, sums_after FROM ring";
        let sums = transaction.query_row(sql, [], |row| Ok(Sums { epoch: row.get(0)?, after: row.get(1)? }))?;
        Ok(*self.sums.insert(sums))
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

    fn operation(&mut self, transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<&OperationNames> {
        match self.operations.entry(number) {
            Occupied(names) => Ok(names.into_mut()),
            Vacant(unread) => {
                let names = transaction
                    .prepare_cached("SELECT operation_id, permission FROM operation WHERE number = ?1")?
                    .query_row([number], |row| {
                        Ok((row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into()))
                    })?;
                Ok(unread.insert(names))
            }
        }
    }
}

/// The seq of the entry with that ordinal. The whole row is checked: a wrong seq would lead to a wrong page.
fn seq_at(transaction: &Transaction<'_>, memory: &mut Memory, class: Class, ordinal: u64) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare_cached(&by_ordinal(class))?;
    let mut rows = statement.query([ordinal])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let values = Values::of(row)?;
    check(transaction, memory, class, ordinal, &values)?;
    values.get(0)
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
    let mut statement = transaction.prepare_cached(&by_ordinal(class))?;
    let mut rows = statement.query([ordinal])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    serve(transaction, memory, class, ordinal, row, visit)
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
        // With it, the whole row is checked.
        let seq = Seq(seq_at(transaction, memory, class, held.first)?);
        let sql = format!("SELECT timestamp_ms, monotonic_us, run FROM {} WHERE ordinal = ?1", class.as_str());
        let (timestamp_ms, monotonic_us, run) =
            transaction.query_row(&sql, [held.first], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let boot_id = memory.run(transaction, run)?.boot_id;
        oldest = Some(Oldest { seq, timestamp_ms, monotonic_us, boot_id });
        newest = Some(Seq(seq_at(transaction, memory, class, held.last)?));
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

fn by_ordinal(class: Class) -> String {
    select(class, "WHERE ordinal = ?1")
}

/// How many columns [`select`] asks for.
const COLUMNS: usize = 23;

/// Column 0 is the seq, 4 to 18 are the call, 19 and 20 how many calls it stands for, 21 the ordinal, 22 the sum.
pub(super) fn select(class: Class, clause: &str) -> String {
    // Only refused calls are stored several in one entry.
    let several = if class == Class::Denied { "calls, span_us" } else { "1, 0" };
    let table = class.as_str();
    format!(
        "SELECT seq, outcome, response_code, duration_us, {CALL_COLUMNS}, {several}, ordinal, sum FROM {table} {clause}"
    )
}

/// The values of a row, each asked for once: asking is much of what serving a row costs.
struct Values<'r>([ValueRef<'r>; COLUMNS]);

impl<'r> Values<'r> {
    fn of(row: &'r Row<'_>) -> rusqlite::Result<Self> {
        let mut values = [ValueRef::Null; COLUMNS];
        for (column, value) in values.iter_mut().enumerate() {
            *value = row.get_ref(column)?;
        }
        Ok(Self(values))
    }

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

/// Checks that a row is what was stored at that ordinal, by its sum, and gives what it names.
fn check<'m>(
    transaction: &Transaction<'_>,
    memory: &'m mut Memory,
    class: Class,
    ordinal: u64,
    values: &Values<'_>,
) -> rusqlite::Result<(Run, Option<&'m OperationNames>)> {
    let sums = memory.sums(transaction)?;
    let run = memory.run(transaction, values.get(4)?)?;
    let operation = match values.get(10)? {
        Some(number) => Some(memory.operation(transaction, number)?),
        None => None,
    };
    let named = Named {
        epoch: &sums.epoch,
        table: class as i64,
        boot_id: run.boot_id.as_bytes(),
        tag: run.tag,
        operation: operation.map(|names| (&*names.0, &*names.1)),
    };
    let mut sum = named.sum();
    for column in (4..19).chain([21, 0, 1, 2, 3, 19, 20]) {
        sum.add(values.0[column]);
    }
    let is_right = match values.get::<Option<i64>>(22)? {
        Some(stored) => stored == sum.value(),
        None => sums.after.is_some_and(|after| values.get::<u64>(0).is_ok_and(|seq| seq <= after)),
    };
    if is_right && values.get::<u64>(21)? == ordinal {
        Ok((run, operation))
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
    visit: &mut dyn FnMut(&ServedEntry<'_>),
) -> rusqlite::Result<()> {
    let values = Values::of(row)?;
    let (run, operation) = check(transaction, memory, class, ordinal, &values)?;
    let seq = Seq(values.get(0)?);
    let outcome = Outcome::ALL.get(values.get::<usize>(1)?).copied().ok_or_else(|| damaged("no such outcome"))?;
    let duration_us = values.get::<u64>(3)?;
    let timestamp: i64 = values.get(5)?;
    let auth_method = match values.get::<usize>(14)? {
        0 => None,
        number => Some(AuthMethod::ALL.get(number - 1).ok_or_else(|| damaged("no such authentication"))?.as_str()),
    };
    let (calls, span_us) = (values.get::<u64>(19)?, values.get::<i64>(20)?);
    visit(&ServedEntry {
        id: EntryId::new(timestamp, class, seq, run.tag),
        timestamp,
        user: values.text(11)?,
        roles: values.text(12)?,
        method: values.text(8)?,
        path: values.text(9)?,
        operation_id: operation.map_or("", |names| &names.0),
        source_ip: values.address(15)?.ok_or_else(|| damaged("no such address"))?,
        response_code: values.get(2)?,
        duration_ms: duration_us / 1_000,
        seq,
        class,
        outcome,
        permission: operation.map(|names| &*names.1),
        token_id: values.optional_text(13)?,
        auth_method,
        trace_id: values.octets(16)?.map(hexadecimal::encode).map(Cow::Owned),
        user_agent: values.optional_text(17)?,
        forwarded_for: values.address(18)?,
        boot_id: run.boot_id,
        monotonic_us: values.get(6)?,
        duration_us,
        clock_synced: values.get(7)?,
        count: (calls > 1).then_some(calls),
        last_timestamp: (calls > 1).then_some(timestamp + span_us / 1_000),
    });
    Ok(())
}
