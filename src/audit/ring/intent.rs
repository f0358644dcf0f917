//! Intents in the ring file: changes that were begun. A row has its call whole, because it stays for the length of a call only.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row as Stored, Transaction};

use super::bind::{Octets, Row};
use super::common;
use super::error::damaged;
use super::rows::{self, Ending, Run};
use super::sum::Named;
use crate::audit::budget;
use crate::audit::class::Class;
use crate::audit::entry::{Call, Outcome, Seq};

/// The number of a stored intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntentNumber(pub u64);

/// The columns that hold a call.
const CALL_COLUMNS: &str = "run, timestamp_ms, monotonic_us, clock_synced, method, path, operation, user, roles, token_id, auth_method, \
                            source_ip, trace_id, user_agent, forwarded_for";

/// Where among these is what calls have in common, in the order of its own columns.
const COMMON: [usize; 10] = [0, 4, 5, 6, 7, 8, 9, 10, 11, 13];
/// And where is the rest, in the order of an entry's columns.
const OWN: [usize; 5] = [1, 2, 3, 12, 14];

/// What the sums of intents name as their table; those of entries name the class.
const TABLE: i64 = 3;

/// What a row takes beside its texts and addresses: record header, numbers, sum, cell pointer.
const FIXED_BYTES: u64 = 72;

/// What an entry is charged, in SQL, whose row has its call whole because a version before 3 stored it.
pub(super) fn charge_sql() -> String {
    let common = common::VALUE_BYTES_SQL;
    let own = "coalesce(length(trace_id), 0) + coalesce(length(forwarded_for), 0)";
    budget::charge_sql(&format!("{FIXED_BYTES} + {common} + {own}"))
}

/// The size of an intent's row, an upper bound.
pub(super) fn row_bytes(call: &Call) -> u64 {
    FIXED_BYTES + common::value_bytes(call) + rows::value_bytes(call)
}

/// An intent that no outcome has closed.
pub(super) struct OpenIntent {
    pub(super) number: IntentNumber,
    /// The columns of its call.
    call: Vec<Value>,
    epoch: [u8; 16],
    boot_id: [u8; 16],
    tag: u32,
    operation: Option<(String, String)>,
}

impl OpenIntent {
    fn read(row: &Stored<'_>) -> rusqlite::Result<Self> {
        let operation = match (row.get(3)?, row.get(4)?) {
            (Some(operation_id), Some(permission)) => Some((operation_id, permission)),
            _ if row.get_ref(FIRST_CALL_COLUMN + 6)? == ValueRef::Null => None,
            _ => return Err(damaged("an intent names no operation that the ring knows")),
        };
        let call =
            (FIRST_CALL_COLUMN..FIRST_CALL_COLUMN + 15).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        let intent = Self {
            number: IntentNumber(row.get(0)?),
            call,
            epoch: row.get(5)?,
            boot_id: row.get(1)?,
            tag: row.get(2)?,
            operation,
        };
        let is_older_than_sums = row.get::<_, Option<i64>>(6)?.is_some();
        let mut sum = intent.named(TABLE).sum();
        intent.call.iter().for_each(|value| sum.add(value.into()));
        sum.add(row.get_ref(0)?);
        match row.get::<_, Option<i64>>(7)? {
            Some(stored) if stored == sum.value() => Ok(intent),
            None if is_older_than_sums => Ok(intent),
            _ => Err(damaged("an intent is not what was stored")),
        }
    }

    fn named(&self, table: i64) -> Named<'_> {
        let operation = self.operation.as_ref().map(|(id, permission)| (id.as_str(), permission.as_str()));
        Named { epoch: &self.epoch, table, boot_id: &self.boot_id, tag: self.tag, operation }
    }

    /// What its entry is charged, with what that has in common with others.
    pub(super) fn charge_bytes(&self) -> u64 {
        let row = |fixed_bytes, columns: &[usize]| {
            let values = columns.iter().map(|&column| match &self.call[column] {
                Value::Text(text) => text.len() as u64,
                Value::Blob(blob) => blob.len() as u64,
                Value::Null | Value::Integer(_) | Value::Real(_) => 0,
            });
            budget::charge_bytes(fixed_bytes + values.sum::<u64>())
        };
        row(common::FIXED_BYTES, &COMMON) + row(rows::fixed_bytes(Class::Change), &OWN)
    }
}

/// The first column of the call in what [`open`] selects.
const FIRST_CALL_COLUMN: usize = 8;

/// The intents that no outcome has closed, oldest first.
pub(super) fn open(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<OpenIntent>> {
    let sql = format!(
        "SELECT intent.number, run.boot_id, run.tag, operation.operation_id, operation.permission, ring.epoch, \
            ring.sums_after, sum, {CALL_COLUMNS} \
         FROM intent CROSS JOIN ring LEFT JOIN run ON run.number = intent.run \
            LEFT JOIN operation ON operation.number = intent.operation ORDER BY intent.number"
    );
    let mut statement = transaction.prepare(&sql)?;
    statement.query_map([], OpenIntent::read)?.collect()
}

/// Stores that a change begins. One that a transaction which seemed to fail did store is stored once.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    run: &Run,
    number: IntentNumber,
    call: &Call,
    operation: Option<i64>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO intent ({CALL_COLUMNS}, number, sum) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) ON CONFLICT (number) DO NOTHING"
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut row = Row::new(&mut statement, run.named(TABLE, call).sum());
    let arrival = &call.arrival;
    row.bind_value(ValueRef::Integer(run.number))?;
    row.bind_value(ValueRef::Integer(arrival.timestamp_ms))?;
    row.bind_value(ValueRef::Integer(arrival.monotonic_us))?;
    row.bind(arrival.clock_synced.into())?;
    common::bind_who_and_what(&mut row, call, operation)?;
    row.bind_octets(call.trace_id.map(Octets::V6))?;
    row.bind_text(call.user_agent.as_deref())?;
    row.bind_octets(call.forwarded_for.map(Octets::of))?;
    row.bind(number.0)?;
    row.execute_with_sum()
}

/// Forgets an intent, in the transaction that stores its outcome.
pub(super) fn delete(transaction: &Transaction<'_>, number: IntentNumber) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM intent WHERE number = ?1")?.execute([number.0]).map(drop)
}

/// Turns an open intent into an entry of class `change` with outcome `interrupted`.
pub(super) fn interrupt(
    transaction: &Transaction<'_>,
    intent: &OpenIntent,
    ordinal: u64,
    seq: Seq,
) -> rusqlite::Result<()> {
    let class = Class::Change;
    let common = common::insert_values(transaction, class, seq, intent.named(class as i64).sum(), |row| {
        COMMON.into_iter().try_for_each(|column| row.bind_value((&intent.call[column]).into()))
    })?;
    let mut statement = rows::insert_into(transaction, class)?;
    let mut row = Row::new(&mut statement, common.sum);
    OWN.into_iter().try_for_each(|column| row.bind_value((&intent.call[column]).into()))?;
    rows::end(row, class, ordinal, seq, common, Ending::unknown(Outcome::Interrupted))?;
    delete(transaction, intent.number)
}
