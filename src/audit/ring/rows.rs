//! Rows of entries and intents in the ring file: one function a statement. Each row has the sum of its values.

use std::net::IpAddr;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row as Stored, Transaction};

use super::IntentNumber;
use super::error::damaged;
use super::sum::{Named, Sum};
use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry, Outcome, Seq};

macro_rules! call_columns {
    () => {
        "run, timestamp_ms, monotonic_us, clock_synced, method, path, operation, user, roles, token_id, auth_method, \
         source_ip, trace_id, user_agent, forwarded_for"
    };
}

/// A statement that is run for every entry is not formatted each time.
macro_rules! insert_entry_into {
    ($table:literal, $several:literal, $parameters:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            call_columns!(),
            ", ordinal, seq, outcome, response_code, duration_us",
            $several,
            ", sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21",
            $parameters,
            ")"
        )
    };
}

/// The columns that hold a call, in `intent` and in the class tables.
pub(in crate::audit) const CALL_COLUMNS: &str = call_columns!();

/// What a row takes beside its texts: record header, numbers, sum, cell pointer.
const ROW_FIXED_BYTES: u64 = 72;

/// The size of a stored call; [`row_bytes`] in SQL.
pub(super) const ROW_BYTES_SQL: &str = "(72 + octet_length(method) + octet_length(path) + octet_length(user) + octet_length(roles) \
    + length(source_ip) + coalesce(octet_length(token_id), 0) + coalesce(length(trace_id), 0) \
    + coalesce(octet_length(user_agent), 0) + coalesce(length(forwarded_for), 0))";

/// The size of a call's row, an upper bound.
pub(super) fn row_bytes(call: &Call) -> u64 {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = call.method.len() + call.path.len() + call.actor.user.len() + call.actor.roles.len();
    let optional_texts = optional(&call.actor.token_id) + optional(&call.user_agent);
    let addresses = Octets::of(call.source_ip).as_bytes().len()
        + call.forwarded_for.map_or(0, |ip| Octets::of(ip).as_bytes().len());
    let trace_id = call.trace_id.map_or(0, |id| id.len());
    ROW_FIXED_BYTES + (texts + optional_texts + addresses + trace_id) as u64
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
    fn named<'a>(&'a self, table: i64, call: &'a Call) -> Named<'a> {
        let operation = call.operation.map(|operation| (operation.id, operation.permission.as_str()));
        Named { epoch: &self.epoch, table, boot_id: &self.boot_id, tag: self.tag, operation }
    }
}

/// What the sums of intents name as their table; those of entries name the class.
const INTENT_TABLE: i64 = 3;

/// An intent that no outcome has closed.
pub(super) struct OpenIntent {
    pub(super) number: IntentNumber,
    pub(super) row_bytes: u64,
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
            row_bytes: row.get(FIRST_CALL_COLUMN + 15)?,
            call,
            epoch: row.get(5)?,
            boot_id: row.get(1)?,
            tag: row.get(2)?,
            operation,
        };
        let is_older_than_sums = row.get::<_, Option<i64>>(6)?.is_some();
        let mut sum = intent.named(INTENT_TABLE).sum();
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
}

/// The first column of the call in what [`open_intents`] selects.
const FIRST_CALL_COLUMN: usize = 8;

/// The intents that no outcome has closed, oldest first.
pub(super) fn open_intents(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<OpenIntent>> {
    let sql = format!(
        "SELECT intent.number, run.boot_id, run.tag, operation.operation_id, operation.permission, ring.epoch, \
            ring.sums_after, sum, {CALL_COLUMNS}, {ROW_BYTES_SQL} \
         FROM intent CROSS JOIN ring LEFT JOIN run ON run.number = intent.run \
            LEFT JOIN operation ON operation.number = intent.operation ORDER BY intent.number"
    );
    let mut statement = transaction.prepare(&sql)?;
    statement.query_map([], OpenIntent::read)?.collect()
}

pub(super) fn insert_intent(
    transaction: &Transaction<'_>,
    run: &Run,
    number: IntentNumber,
    call: &Call,
    operation: Option<i64>,
) -> rusqlite::Result<()> {
    // An intent that a transaction which seemed to fail did store is stored once.
    let sql = format!(
        "INSERT INTO intent ({CALL_COLUMNS}, number, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) ON CONFLICT (number) DO NOTHING"
    );
    let mut insert = Insert::new(transaction.prepare_cached(&sql)?);
    let mut row = Row::new(&mut insert, run.named(INTENT_TABLE, call).sum());
    bind_call(&mut row, run, call, operation)?;
    row.bind(number.0)?;
    row.execute()
}

pub(super) fn delete_intent(transaction: &Transaction<'_>, number: IntentNumber) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM intent WHERE number = ?1")?.execute([number.0]).map(drop)
}

/// Turns an open intent into an entry of class `change` with outcome `interrupted`.
pub(super) fn insert_interrupted(
    transaction: &Transaction<'_>,
    intent: &OpenIntent,
    ordinal: u64,
    seq: Seq,
) -> rusqlite::Result<()> {
    let mut insert = Insert::new(transaction.prepare_cached(insert_entry_into!("change", "", ""))?);
    let mut row = Row::new(&mut insert, intent.named(Class::Change as i64).sum());
    intent.call.iter().try_for_each(|value| row.bind_value(value.into()))?;
    row.bind(ordinal)?;
    row.bind(seq.0)?;
    row.bind(Outcome::Interrupted as u64)?;
    row.bind(0)?;
    row.bind(0)?;
    row.one_call();
    row.execute()?;
    delete_intent(transaction, intent.number)
}

/// The statements that store entries. Each is prepared once for all entries of a transaction: to look for it anew for each of them
/// costs a sixth of what it takes to store one.
pub(super) struct Inserts<'t> {
    connection: &'t Connection,
    by_class: [Option<Insert<'t>>; 3],
}

impl<'t> Inserts<'t> {
    pub(super) const fn new(connection: &'t Connection) -> Self {
        Self { connection, by_class: [None, None, None] }
    }

    pub(super) fn entry(
        &mut self,
        run: &Run,
        ordinal: u64,
        seq: Seq,
        entry: &'t Entry,
        operation: Option<i64>,
    ) -> rusqlite::Result<()> {
        let insert = match &mut self.by_class[entry.class.index()] {
            Some(insert) => insert,
            unprepared => unprepared.insert(Insert::new(self.connection.prepare_cached(match entry.class {
                Class::Change => insert_entry_into!("change", "", ""),
                Class::Read => insert_entry_into!("read", "", ""),
                Class::Denied => insert_entry_into!("denied", ", calls, span_us", ", ?22, ?23"),
            })?)),
        };
        let sum = insert.sum_of(operation, &run.named(entry.class as i64, &entry.call));
        let mut row = Row::new(insert, sum);
        bind_call(&mut row, run, &entry.call, operation)?;
        row.bind(ordinal)?;
        row.bind(seq.0)?;
        row.bind(entry.outcome as u64)?;
        row.bind(entry.response_code.into())?;
        row.bind(entry.duration_us)?;
        if entry.class == Class::Denied {
            row.bind(entry.calls)?;
            row.bind(entry.span_us)?;
        } else {
            row.one_call();
        }
        row.execute()
    }
}

/// Binds the call in the order of [`CALL_COLUMNS`].
fn bind_call<'c>(row: &mut Row<'_, 'c>, run: &Run, call: &'c Call, operation: Option<i64>) -> rusqlite::Result<()> {
    let (arrival, actor) = (&call.arrival, &call.actor);
    row.bind_value(ValueRef::Integer(run.number))?;
    row.bind_value(ValueRef::Integer(arrival.timestamp_ms))?;
    row.bind_value(ValueRef::Integer(arrival.monotonic_us))?;
    row.bind(arrival.clock_synced.into())?;
    row.bind_text(Some(&call.method))?;
    row.bind_text(Some(&call.path))?;
    row.bind_value(operation.map_or(ValueRef::Null, ValueRef::Integer))?;
    row.bind_text(Some(&actor.user))?;
    row.bind_text(Some(&actor.roles))?;
    row.bind_text(actor.token_id.as_deref())?;
    row.bind(actor.auth_method.map_or(0, |method| method as u64 + 1))?;
    row.bind_octets(Some(Octets::of(call.source_ip)))?;
    row.bind_value(call.trace_id.as_ref().map_or(ValueRef::Null, |id| ValueRef::Blob(id)))?;
    row.bind_text(call.user_agent.as_deref())?;
    row.bind_octets(call.forwarded_for.map(Octets::of))
}

/// A statement that inserts rows, and the values that it has from the row before. Those are not bound again, as SQLite would copy
/// them: most rows of a batch are by the same caller and for the same path.
struct Insert<'c> {
    statement: CachedStatement<'c>,
    held: [Held<'c>; PARAMETERS_MAX],
    /// The sum of what the row before names, and the operation among that. The rest is the same for all rows of a table and a run.
    named: Option<(Option<i64>, Sum)>,
}

/// The most parameters that a row has beside its sum.
const PARAMETERS_MAX: usize = 23;

/// What a parameter is known to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held<'c> {
    /// Anything.
    Unknown,
    Null,
    Text(&'c str),
    Octets(Octets),
}

impl<'c> Insert<'c> {
    const fn new(statement: CachedStatement<'c>) -> Self {
        Self { statement, held: [Held::Unknown; PARAMETERS_MAX], named: None }
    }

    /// The sum of what a row names, which names this operation.
    fn sum_of(&mut self, operation: Option<i64>, named: &Named<'_>) -> Sum {
        match self.named {
            Some((known, sum)) if known == operation => sum,
            _ => self.named.insert((operation, named.sum())).1,
        }
    }
}

/// A row about to be inserted: binds its values one after the other, and their sum after the last.
struct Row<'s, 'c> {
    insert: &'s mut Insert<'c>,
    values: usize,
    sum: Sum,
}

impl<'s, 'c> Row<'s, 'c> {
    const fn new(insert: &'s mut Insert<'c>, sum: Sum) -> Self {
        Self { insert, values: 0, sum }
    }

    fn bind(&mut self, number: u64) -> rusqlite::Result<()> {
        let number = i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        self.bind_value(ValueRef::Integer(number))
    }

    fn bind_text(&mut self, text: Option<&'c str>) -> rusqlite::Result<()> {
        self.bind_held(text.map_or(Held::Null, Held::Text), text.map_or(ValueRef::Null, ValueRef::from))
    }

    fn bind_octets(&mut self, octets: Option<Octets>) -> rusqlite::Result<()> {
        let value = octets.as_ref().map_or(ValueRef::Null, |octets| ValueRef::Blob(octets.as_bytes()));
        self.bind_held(octets.map_or(Held::Null, Held::Octets), value)
    }

    fn bind_held(&mut self, now: Held<'c>, value: ValueRef<'_>) -> rusqlite::Result<()> {
        if self.insert.held[self.values] == now {
            self.sum.add(value);
            self.values += 1;
            return Ok(());
        }
        self.bind_value(value)?;
        self.insert.held[self.values - 1] = now;
        Ok(())
    }

    fn bind_value(&mut self, value: ValueRef<'_>) -> rusqlite::Result<()> {
        self.sum.add(value);
        self.insert.held[self.values] = Held::Unknown;
        self.values += 1;
        self.insert.statement.raw_bind_parameter(self.values, ToSqlOutput::Borrowed(value))
    }

    /// The entry stands for one call, which only entries of class `denied` say in columns.
    fn one_call(&mut self) {
        self.sum.add(ValueRef::Integer(1));
        self.sum.add(ValueRef::Integer(0));
    }

    fn execute(self) -> rusqlite::Result<()> {
        let statement = &mut self.insert.statement;
        statement.raw_bind_parameter(self.values + 1, self.sum.value())?;
        statement.raw_execute().map(drop)
    }
}

/// An address in network order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.octets()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}
