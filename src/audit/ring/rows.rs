//! Rows of the ring file: one function a statement.

use std::net::IpAddr;

use rusqlite::{CachedStatement, Connection, Transaction, params};

use super::{IntentNumber, State};
use crate::audit::budget::{PAGE_BYTES, PAGE_USABLE_BYTES};
use crate::audit::class::Class;
use crate::audit::entry::{Call, Entry, Outcome, Seq};
use crate::audit::retention::{Extent, Limits, Retention};

macro_rules! call_columns {
    () => {
        "run, timestamp_ms, monotonic_us, clock_synced, method, path, operation, user, roles, token_id, auth_method, \
         source_ip, trace_id, user_agent, forwarded_for"
    };
}

/// A statement that is run for every entry is not formatted each time.
macro_rules! insert_entry_into {
    ($table:literal, $more_columns:literal, $more_values:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            call_columns!(),
            ", ordinal, seq, outcome, response_code, duration_us",
            $more_columns,
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20",
            $more_values,
            ")"
        )
    };
}

/// The columns that hold a call, in `intent` and in the class tables.
pub(in crate::audit) const CALL_COLUMNS: &str = call_columns!();

/// What a row takes beside its texts: record header, numbers, cell pointer.
const ROW_FIXED_BYTES: u64 = 64;

/// The size of a stored call; [`row_bytes`] in SQL.
const ROW_BYTES_SQL: &str = "(64 + octet_length(method) + octet_length(path) + octet_length(user) + octet_length(roles) \
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

/// Reads the accounts of the ring from the file.
pub(super) fn load(connection: &Connection, limits: Limits) -> rusqlite::Result<State> {
    let mut last_seq = connection.query_row("SELECT seq_base FROM ring", [], |row| row.get::<_, u64>(0))?;
    for class in Class::ALL {
        let sql = format!("SELECT coalesce((SELECT seq FROM {} ORDER BY ordinal DESC LIMIT 1), 0)", class.as_str());
        last_seq = last_seq.max(connection.query_row(&sql, [], |row| row.get(0))?);
    }
    let [change, read, denied] = Class::ALL.map(|class| load_extents(connection, class));
    let operations = connection
        .prepare("SELECT operation_id, permission, number FROM operation")?
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(State { last_seq: Seq(last_seq), retention: Retention::new(limits, [change?, read?, denied?]), operations })
}

fn load_extents(connection: &Connection, class: Class) -> rusqlite::Result<(Vec<Extent>, Extent)> {
    let closed = connection
        .prepare("SELECT first_ordinal, entries, charge_bytes FROM extent WHERE class = ?1 ORDER BY first_ordinal")?
        .query_map([class.index()], |row| {
            Ok(Extent { first_ordinal: row.get(0)?, entries: row.get(1)?, charge_bytes: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let evicted = connection
        .query_row("SELECT evicted FROM loss WHERE class = ?1", [class.index()], |row| row.get::<_, u64>(0))?;
    let first_ordinal = closed.last().map_or(evicted + 1, Extent::end_ordinal);
    let sql = format!(
        "SELECT count(*), coalesce(sum({PAGE_BYTES} / ({PAGE_USABLE_BYTES} / {ROW_BYTES_SQL})), 0) FROM {} WHERE ordinal >= ?1",
        class.as_str()
    );
    let open = connection.query_row(&sql, [first_ordinal], |row| {
        Ok(Extent { first_ordinal, entries: row.get(0)?, charge_bytes: row.get(1)? })
    })?;
    Ok((closed, open))
}

/// The intents that no outcome has closed, oldest first, and the size of each.
pub(super) fn open_intents(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<(IntentNumber, u64)>> {
    let sql = format!("SELECT number, {ROW_BYTES_SQL} FROM intent ORDER BY number");
    let mut statement = transaction.prepare(&sql)?;
    let rows = statement.query_map([], |row| Ok((IntentNumber(row.get(0)?), row.get(1)?)))?;
    rows.collect()
}

pub(super) fn insert_intent(
    transaction: &Transaction<'_>,
    run: i64,
    number: IntentNumber,
    call: &Call,
    operation: Option<i64>,
) -> rusqlite::Result<()> {
    // An intent that a transaction which seemed to fail did store is stored once.
    let sql = format!(
        "INSERT INTO intent ({CALL_COLUMNS}, number) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT (number) DO NOTHING"
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    bind_call(&mut statement, run, call, operation)?;
    statement.raw_bind_parameter(16, number.0)?;
    statement.raw_execute().map(drop)
}

pub(super) fn delete_intent(transaction: &Transaction<'_>, number: IntentNumber) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM intent WHERE number = ?1")?.execute([number.0]).map(drop)
}

/// Turns an open intent into an entry of class `change` with outcome `interrupted`.
pub(super) fn insert_interrupted(
    transaction: &Transaction<'_>,
    number: IntentNumber,
    ordinal: u64,
    seq: Seq,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO change (ordinal, seq, outcome, response_code, duration_us, {CALL_COLUMNS}) \
         SELECT ?2, ?3, ?4, 0, 0, {CALL_COLUMNS} FROM intent WHERE number = ?1"
    );
    let outcome = Outcome::Interrupted as i64;
    transaction.execute(&sql, params![number.0, ordinal, seq.0, outcome])?;
    delete_intent(transaction, number)
}

pub(super) fn insert_entry(
    transaction: &Transaction<'_>,
    run: i64,
    ordinal: u64,
    seq: Seq,
    entry: &Entry,
    operation: Option<i64>,
) -> rusqlite::Result<()> {
    let sql = match entry.class {
        Class::Change => insert_entry_into!("change", "", ""),
        Class::Read => insert_entry_into!("read", "", ""),
        Class::Denied => insert_entry_into!("denied", ", calls, span_us", ", ?21, ?22"),
    };
    let mut statement = transaction.prepare_cached(sql)?;
    bind_call(&mut statement, run, &entry.call, operation)?;
    statement.raw_bind_parameter(16, ordinal)?;
    statement.raw_bind_parameter(17, seq.0)?;
    statement.raw_bind_parameter(18, entry.outcome as i64)?;
    statement.raw_bind_parameter(19, entry.response_code)?;
    statement.raw_bind_parameter(20, entry.duration_us)?;
    if entry.class == Class::Denied {
        statement.raw_bind_parameter(21, entry.calls)?;
        statement.raw_bind_parameter(22, entry.span_us)?;
    }
    statement.raw_execute().map(drop)
}

/// Binds parameters 1 to 15 in the order of [`CALL_COLUMNS`].
fn bind_call(
    statement: &mut CachedStatement<'_>,
    run: i64,
    call: &Call,
    operation: Option<i64>,
) -> rusqlite::Result<()> {
    let (arrival, actor) = (&call.arrival, &call.actor);
    statement.raw_bind_parameter(1, run)?;
    statement.raw_bind_parameter(2, arrival.timestamp_ms)?;
    statement.raw_bind_parameter(3, arrival.monotonic_us)?;
    statement.raw_bind_parameter(4, arrival.clock_synced)?;
    statement.raw_bind_parameter(5, &call.method)?;
    statement.raw_bind_parameter(6, &call.path)?;
    statement.raw_bind_parameter(7, operation)?;
    statement.raw_bind_parameter(8, &actor.user)?;
    statement.raw_bind_parameter(9, &actor.roles)?;
    statement.raw_bind_parameter(10, actor.token_id.as_ref())?;
    statement.raw_bind_parameter(11, actor.auth_method.map_or(0, |method| method as i64 + 1))?;
    statement.raw_bind_parameter(12, Octets::of(call.source_ip).as_bytes())?;
    statement.raw_bind_parameter(13, call.trace_id.as_ref().map(<[u8; 16]>::as_slice))?;
    statement.raw_bind_parameter(14, call.user_agent.as_ref())?;
    statement.raw_bind_parameter(15, call.forwarded_for.map(Octets::of).as_ref().map(Octets::as_bytes))
}

pub(super) fn insert_extent(transaction: &Transaction<'_>, class: Class, extent: Extent) -> rusqlite::Result<()> {
    let sql = "INSERT INTO extent (class, first_ordinal, entries, charge_bytes) VALUES (?1, ?2, ?3, ?4)";
    let Extent { first_ordinal, entries, charge_bytes } = extent;
    let values = params![class.index(), first_ordinal, entries, charge_bytes];
    transaction.prepare_cached(sql)?.execute(values).map(drop)
}

/// Deletes an extent and its entries, and counts them as evicted.
pub(super) fn delete_extent(transaction: &Transaction<'_>, class: Class, extent: Extent) -> rusqlite::Result<()> {
    let calls = match class {
        Class::Denied => transaction
            .prepare_cached("SELECT sum(calls) FROM denied WHERE ordinal < ?1")?
            .query_row([extent.end_ordinal()], |row| row.get(0))?,
        Class::Change | Class::Read => extent.entries,
    };
    transaction
        .prepare_cached("UPDATE loss SET evicted = evicted + ?2, evicted_calls = evicted_calls + ?3 WHERE class = ?1")?
        .execute(params![class.index(), extent.entries, calls])?;
    let entries = format!("DELETE FROM {} WHERE ordinal < ?1", class.as_str());
    transaction.prepare_cached(&entries)?.execute([extent.end_ordinal()])?;
    let account = "DELETE FROM extent WHERE class = ?1 AND first_ordinal < ?2";
    transaction.prepare_cached(account)?.execute(params![class.index(), extent.end_ordinal()]).map(drop)
}

/// Adds to one of the counters of table `loss`: `dropped`, `interrupted` or `coalesced`.
pub(super) fn add_loss(
    transaction: &Transaction<'_>,
    class: Class,
    counter: &'static str,
    calls: u64,
) -> rusqlite::Result<()> {
    let sql = format!("UPDATE loss SET {counter} = {counter} + ?2 WHERE class = ?1");
    transaction.prepare_cached(&sql)?.execute(params![class.index(), calls]).map(drop)
}

/// An address in network order.
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
