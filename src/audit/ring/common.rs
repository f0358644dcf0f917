//! What many calls have in common: who calls from where, and what.
//!
//! Stored once for all entries of an extent that have it, which name it by number. So it is evicted with them, and nothing has to count
//! how often it is named.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction};

use super::bind::{Octets, Row};
use super::rows::Run;
use super::sum::Sum;
use crate::audit::budget;
use crate::audit::class::Class;
use crate::audit::entry::{Call, Seq};

macro_rules! columns {
    () => {
        "run, method, path, operation, user, roles, token_id, auth_method, source_ip, user_agent"
    };
}

macro_rules! insert_into {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            "_common (",
            columns!(),
            ", number) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        )
    };
}

/// The columns that hold it, in the tables of their own and in rows that were stored before there were any.
pub(in crate::audit) const COMMON_COLUMNS: &str = columns!();

/// What a row takes beside its texts: record header, numbers, cell pointer.
pub(super) const FIXED_BYTES: u64 = 32;

/// How many rows of a class are remembered, so that an entry can name them; a caller with more ways to call stores them again.
const REMEMBERED: usize = 256;

/// A stored row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    /// The seq of the first entry that names it.
    pub(super) number: Seq,
    /// The sum to which the values of an entry that names it are added.
    pub(super) sum: Sum,
}

/// The rows that entries of a class's newest extent can name.
#[derive(Debug, Default)]
pub(super) struct Commons {
    hasher: RandomState,
    /// By hash. Where two have the same, the older one is forgotten.
    rows: BTreeMap<u64, (Call, Common)>,
}

impl Commons {
    /// The row that holds what this call has in common with others.
    pub(super) fn find(&self, call: &Call) -> Option<Common> {
        let (known, common) = self.rows.get(&self.hash(call))?;
        are_alike(known, call).then_some(*common)
    }

    /// Another row is stored.
    pub(super) fn remember(&mut self, call: &Call, common: Common) {
        if self.rows.len() >= REMEMBERED {
            self.rows.clear();
        }
        self.rows.insert(self.hash(call), (call.clone(), common));
    }

    /// Another extent begins.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    fn hash(&self, call: &Call) -> u64 {
        self.hasher.hash_one(of(call))
    }
}

/// Whether two calls of a class have this in common.
pub(super) fn are_alike(one: &Call, other: &Call) -> bool {
    of(one) == of(other)
}

/// What is compared of two calls.
fn of(call: &Call) -> impl Eq + std::hash::Hash + use<'_> {
    let actor = &*call.actor;
    let who = (&*actor.user, &*actor.roles, actor.token_id.as_deref(), actor.auth_method);
    let operation = call.operation.map(|operation| (operation.id, operation.permission));
    (&*call.method, &*call.path, operation, who, call.source_ip.to_canonical(), call.user_agent.as_deref())
}

/// What such a row is charged, in SQL.
pub(super) fn charge_sql() -> String {
    budget::charge_sql(&format!("{FIXED_BYTES} + {VALUE_BYTES_SQL}"))
}

/// What storing it takes, in the charge of the entry that brings it.
pub(super) fn charge_bytes(call: &Call) -> u64 {
    budget::charge_bytes(row_bytes(call))
}

/// The size of the row, an upper bound.
pub(super) fn row_bytes(call: &Call) -> u64 {
    FIXED_BYTES + value_bytes(call)
}

/// The size of its texts and its address in SQL.
pub(super) const VALUE_BYTES_SQL: &str = "octet_length(method) + octet_length(path) + octet_length(user) + octet_length(roles) \
    + coalesce(octet_length(token_id), 0) + length(source_ip) + coalesce(octet_length(user_agent), 0)";

/// The size of its texts and its address.
pub(super) fn value_bytes(call: &Call) -> u64 {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = call.method.len() + call.path.len() + call.actor.user.len() + call.actor.roles.len();
    let address = Octets::of(call.source_ip).as_bytes().len();
    (texts + optional(&call.actor.token_id) + optional(&call.user_agent) + address) as u64
}

/// Stores what a call of this class has in common with others under the seq of its entry.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    run: &Run,
    class: Class,
    call: &Call,
    operation: Option<i64>,
    number: Seq,
) -> rusqlite::Result<Common> {
    insert_values(transaction, class, number, run.named(class as i64, call).sum(), |row| {
        bind(row, run, call, operation)
    })
}

/// Stores the values that `bind` binds, in the order of [`COMMON_COLUMNS`].
pub(super) fn insert_values(
    transaction: &Transaction<'_>,
    class: Class,
    number: Seq,
    named: Sum,
    bind: impl FnOnce(&mut Row<'_, '_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Common> {
    let mut statement = transaction.prepare_cached(match class {
        Class::Change => insert_into!("change"),
        Class::Read => insert_into!("read"),
        Class::Denied => insert_into!("denied"),
    })?;
    let mut row = Row::new(&mut statement, named);
    bind(&mut row)?;
    let sum = row.sum();
    row.bind_apart(number.0.cast_signed())?;
    row.execute()?;
    Ok(Common { number, sum })
}

/// Binds what a call has in common with others in the order of [`COMMON_COLUMNS`].
pub(super) fn bind(row: &mut Row<'_, '_>, run: &Run, call: &Call, operation: Option<i64>) -> rusqlite::Result<()> {
    row.bind_value(ValueRef::Integer(run.number))?;
    bind_who_and_what(row, call, operation)?;
    row.bind_text(call.user_agent.as_deref())
}

/// Binds what was called and by whom, in the order that intents and what calls have in common share.
pub(super) fn bind_who_and_what(row: &mut Row<'_, '_>, call: &Call, operation: Option<i64>) -> rusqlite::Result<()> {
    let actor = &call.actor;
    row.bind_text(Some(&call.method))?;
    row.bind_text(Some(&call.path))?;
    row.bind_value(operation.map_or(ValueRef::Null, ValueRef::Integer))?;
    row.bind_text(Some(&actor.user))?;
    row.bind_text(Some(&actor.roles))?;
    row.bind_text(actor.token_id.as_deref())?;
    row.bind(actor.auth_method.map_or(0, |method| method as u64 + 1))?;
    row.bind_octets(Some(Octets::of(call.source_ip)))
}

/// Deletes what no entry of a class names any more once those up to this seq are gone.
pub(super) fn delete(connection: &Connection, class: Class, up_to: Seq) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {}_common WHERE number <= ?1", class.as_str());
    connection.prepare_cached(&sql)?.execute([up_to.0]).map(drop)
}
