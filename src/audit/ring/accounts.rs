//! The ring's accounts: what it holds and what it has lost, in memory as in the file.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Transaction, params};

use super::common::{self, Common, Commons};
use super::error::damaged;
use super::intent;
use super::rows::{self, Run};
use crate::audit::budget::{self, ENTRY_CHARGE_MAX, PAGE_BYTES};
use crate::audit::class::Class;
use crate::audit::entry::{Call, Seq};
use crate::audit::retention::{Extent, Limits, Retention};

/// What the file holds, kept in memory.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) last_seq: Seq,
    pub(super) retention: Retention,
    pub(super) losses: [Loss; 3],
    /// Whether `losses` is behind the file.
    losses_moved: bool,
    /// Numbers of operations by their ID, one for each permission that an ID had in the ring's life.
    operations: HashMap<String, Vec<(String, i64)>>,
    /// What the entries of each class's newest extent can name.
    commons: [Commons; 3],
    /// The sum of the charges of what the present transaction has stored.
    pub(super) charged_bytes: u64,
}

/// What a class has lost: its row of table `loss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) evicted: u64,
    pub(super) dropped: u64,
    pub(super) interrupted: u64,
    pub(super) coalesced: u64,
    pub(super) evicted_calls: u64,
    pub(super) lost: u64,
}

impl Loss {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            evicted: row.get(0)?,
            dropped: row.get(1)?,
            interrupted: row.get(2)?,
            coalesced: row.get(3)?,
            evicted_calls: row.get(4)?,
            lost: row.get(5)?,
        })
    }

    /// Stores it as what a new ring begins with.
    pub(super) fn insert(self, transaction: &Transaction<'_>, class: Class) -> rusqlite::Result<()> {
        let sql = "INSERT INTO loss (class, evicted, dropped, interrupted, coalesced, evicted_calls, lost) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let Self { evicted, dropped, interrupted, coalesced, evicted_calls, lost } = self;
        let values = params![class.index(), evicted, dropped, interrupted, coalesced, evicted_calls, lost];
        transaction.execute(sql, values).map(drop)
    }
}

impl Accounts {
    /// Reads the accounts from the file, and checks that they fit each other and the entries.
    pub(super) fn load(connection: &Connection, limits: Limits) -> rusqlite::Result<Self> {
        let mut last_seq = connection.query_row("SELECT seq_base FROM ring", [], |row| row.get::<_, u64>(0))?;
        for class in Class::ALL {
            let sql = format!("SELECT coalesce((SELECT seq FROM {} ORDER BY ordinal DESC LIMIT 1), 0)", class.as_str());
            last_seq = last_seq.max(connection.query_row(&sql, [], |row| row.get(0))?);
        }
        let losses = losses(connection)?;
        let [change, read, denied] =
            Class::ALL.map(|class| load_extents(connection, class, losses[class.index()].evicted));
        let mut operations = HashMap::<_, Vec<_>>::new();
        let mut statement = connection.prepare("SELECT operation_id, permission, number FROM operation")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            operations.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
        }
        let retention = Retention::new(limits, [change?, read?, denied?]);
        Ok(Self {
            last_seq: Seq(last_seq),
            retention,
            losses,
            losses_moved: false,
            operations,
            commons: Default::default(),
            charged_bytes: 0,
        })
    }

    /// Makes room for an entry, stores what it has in common with others unless that is stored, and gives the entry its ordinal.
    pub(super) fn admit(
        &mut self,
        transaction: &Transaction<'_>,
        run: &Run,
        class: Class,
        call: &Call,
        seq: Seq,
    ) -> rusqlite::Result<(u64, Common)> {
        let operation = self.operation_number(transaction, call)?;
        let own_bytes = budget::charge_bytes(rows::row_bytes(class, call));
        loop {
            // What has to make room may be what it has something in common with.
            let known = self.commons[class.index()].find(call);
            let charge_bytes = own_bytes + if known.is_some() { 0 } else { common::charge_bytes(call) };
            if let Some(victim) = self.retention.victim(class, charge_bytes) {
                self.evict(transaction, victim)?;
                continue;
            }
            let common = match known {
                Some(common) => common,
                None => common::insert(transaction, run, class, call, operation, seq)?,
            };
            if known.is_none() {
                self.commons[class.index()].remember(call, common);
            }
            return Ok((self.take_in(transaction, class, charge_bytes)?, common));
        }
    }

    /// Makes room for an entry that shares nothing with others, and gives it its ordinal.
    pub(super) fn admit_alone(
        &mut self,
        transaction: &Transaction<'_>,
        class: Class,
        charge_bytes: u64,
    ) -> rusqlite::Result<u64> {
        while let Some(victim) = self.retention.victim(class, charge_bytes) {
            self.evict(transaction, victim)?;
        }
        self.take_in(transaction, class, charge_bytes)
    }

    fn take_in(&mut self, transaction: &Transaction<'_>, class: Class, charge_bytes: u64) -> rusqlite::Result<u64> {
        self.charged_bytes += charge_bytes;
        let (ordinal, completed) = self.retention.admit(class, charge_bytes);
        if let Some(extent) = completed {
            self.commons[class.index()].clear();
            insert_extent(transaction, class, extent)?;
        }
        Ok(ordinal)
    }

    /// Gives up the oldest extent of a class, and tells its charge.
    pub(super) fn evict(&mut self, transaction: &Transaction<'_>, class: Class) -> rusqlite::Result<u64> {
        let (evicted, left) = self.retention.evict(class);
        if self.retention.begins_extent(class) {
            self.commons[class.index()].clear();
        }
        delete_extent(transaction, class, evicted, left.is_some())?;
        self.losses_moved = true;
        left.map_or(Ok(()), |left| insert_extent(transaction, class, left))?;
        Ok(evicted.charge_bytes)
    }

    /// Adds to one of the counters of table `loss`: `dropped`, `interrupted` or `coalesced`.
    pub(super) fn add_loss(
        &mut self,
        transaction: &Transaction<'_>,
        class: Class,
        counter: &'static str,
        calls: u64,
    ) -> rusqlite::Result<()> {
        self.losses_moved = true;
        let sql = format!("UPDATE loss SET {counter} = {counter} + ?2 WHERE class = ?1");
        transaction.prepare_cached(&sql)?.execute(params![class.index(), calls]).map(drop)
    }

    /// Brings memory up to what the transaction has changed.
    pub(super) fn settle(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.losses_moved) {
            self.losses = losses(transaction)?;
        }
        Ok(())
    }

    /// The number of the operation that a call names.
    pub(super) fn operation_number(
        &mut self,
        transaction: &Transaction<'_>,
        call: &Call,
    ) -> rusqlite::Result<Option<i64>> {
        let Some(operation) = call.operation else {
            return Ok(None);
        };
        let permission = operation.permission.as_str();
        let known = self.operations.get(operation.id).and_then(|numbers| {
            let (_, number) = numbers.iter().find(|(held, _)| held == permission)?;
            Some(*number)
        });
        if known.is_some() {
            return Ok(known);
        }
        let sql = "INSERT INTO operation (operation_id, permission) VALUES (?1, ?2)";
        transaction.execute(sql, params![operation.id, permission])?;
        let number = transaction.last_insert_rowid();
        self.operations.entry(operation.id.to_owned()).or_default().push((permission.to_owned(), number));
        Ok(Some(number))
    }
}

/// Stores that a run with this tag begins, unless it is stored, forgets runs that no entry names any more, and gives the run.
pub(super) fn begin_run(
    transaction: &Transaction<'_>,
    tag: u32,
    boot_id: [u8; 16],
    started_ms: i64,
) -> rusqlite::Result<Run> {
    let epoch = transaction.query_row("SELECT epoch FROM ring", [], |row| row.get(0))?;
    let newest = "SELECT number FROM run WHERE number = (SELECT max(number) FROM run) AND tag = ?1 AND boot_id = ?2";
    let stored = transaction.prepare(newest)?.query_map(params![tag, boot_id], |row| row.get(0))?.next().transpose()?;
    if let Some(number) = stored {
        return Ok(Run { number, epoch, boot_id, tag });
    }
    transaction.execute(
        "INSERT INTO run (tag, boot_id, started_ms, version) VALUES (?1, ?2, ?3, ?4)",
        params![tag, boot_id, started_ms, env!("CARGO_PKG_VERSION")],
    )?;
    let number = transaction.last_insert_rowid();
    // Once the last row that holds its call itself is evicted, none does.
    let oldest =
        Class::ALL.map(|class| format!("coalesce((SELECT seq FROM {} ORDER BY ordinal LIMIT 1), ?1)", class.as_str()));
    let sql =
        format!("UPDATE ring SET calls_inline_until = NULL WHERE calls_inline_until < min({})", oldest.join(", "));
    transaction.execute(&sql, [i64::MAX])?;
    // The oldest row of what calls have in common is named by the oldest entry, or by one of its extent.
    let mut named = vec!["SELECT min(run) FROM intent".to_owned()];
    named.extend(Class::ALL.map(|class| format!("SELECT run FROM {}_common ORDER BY number LIMIT 1", class.as_str())));
    if holds_calls_inline(transaction)? {
        named.extend(Class::ALL.map(|class| format!("SELECT run FROM {} ORDER BY ordinal LIMIT 1", class.as_str())));
    }
    let named: Vec<_> = named.iter().map(|oldest| format!("coalesce(({oldest}), ?1)")).collect();
    let sql = format!("DELETE FROM run WHERE number < min(?1, {})", named.join(", "));
    transaction.execute(&sql, [number])?;
    Ok(Run { number, epoch, boot_id, tag })
}

/// Whether rows can hold their call themselves, because a version before 3 stored them.
fn holds_calls_inline(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT calls_inline_until IS NOT NULL FROM ring", [], |row| row.get(0))
}

fn losses(connection: &Connection) -> rusqlite::Result<[Loss; 3]> {
    let sql = "SELECT evicted, dropped, interrupted, coalesced, evicted_calls, lost FROM loss WHERE class = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut losses = [Loss::default(); 3];
    for (class, loss) in losses.iter_mut().enumerate() {
        *loss = statement.query_row([class], Loss::read)?;
    }
    Ok(losses)
}

fn load_extents(connection: &Connection, class: Class, evicted: u64) -> rusqlite::Result<(Vec<Extent>, Extent)> {
    let closed = connection
        .prepare("SELECT first_ordinal, entries, charge_bytes FROM extent WHERE class = ?1 ORDER BY first_ordinal")?
        .query_map([class.index()], |row| {
            Ok(Extent { first_ordinal: row.get(0)?, entries: row.get(1)?, charge_bytes: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut next = evicted + 1;
    for extent in &closed {
        // None of these sums can overflow. A part of an extent has what the division of its charge left over.
        let is_sound =
            extent.entries < 1 << 40 && extent.charge_bytes <= extent.entries * ENTRY_CHARGE_MAX + PAGE_BYTES;
        if extent.first_ordinal != next || !is_sound {
            return Err(damaged("the extents of the ring do not follow each other"));
        }
        next = extent.end_ordinal();
    }
    let table = class.as_str();
    let (mut own, common) = (rows::charge_sql(class), common::charge_sql());
    if holds_calls_inline(connection)? {
        own = format!("iif(common IS NULL, {}, {own})", intent::charge_sql());
    }
    let sql = format!(
        "SELECT count(*), coalesce(sum({own}), 0) + coalesce((SELECT sum({common}) FROM {table}_common \
            WHERE number >= (SELECT seq FROM {table} WHERE ordinal = ?1)), 0) FROM {table} WHERE ordinal >= ?1"
    );
    let open = connection.query_row(&sql, [next], |row| {
        Ok(Extent { first_ordinal: next, entries: row.get(0)?, charge_bytes: row.get(1)? })
    })?;
    let ends = format!("SELECT (SELECT min(ordinal) FROM {table}), (SELECT max(ordinal) FROM {table})");
    let ends: (Option<u64>, Option<u64>) = connection.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let end = open.end_ordinal();
    let expected = if end > evicted + 1 { (Some(evicted + 1), Some(end - 1)) } else { (None, None) };
    if ends != expected {
        return Err(damaged("the ring does not hold the entries that its extents name"));
    }
    Ok((closed, open))
}

fn insert_extent(transaction: &Transaction<'_>, class: Class, extent: Extent) -> rusqlite::Result<()> {
    let sql = "INSERT INTO extent (class, first_ordinal, entries, charge_bytes) VALUES (?1, ?2, ?3, ?4)";
    let Extent { first_ordinal, entries, charge_bytes } = extent;
    let values = params![class.index(), first_ordinal, entries, charge_bytes];
    transaction.prepare_cached(sql)?.execute(values).map(drop)
}

/// Deletes an extent with its entries and what only they have in common, and counts them as evicted. A part of one leaves that to
/// the last part.
fn delete_extent(transaction: &Transaction<'_>, class: Class, extent: Extent, is_part: bool) -> rusqlite::Result<()> {
    let calls = match class {
        Class::Denied => transaction
            .prepare_cached("SELECT sum(calls) FROM denied WHERE ordinal < ?1")?
            .query_row([extent.end_ordinal()], |row| row.get(0))?,
        Class::Change | Class::Read => extent.entries,
    };
    transaction
        .prepare_cached("UPDATE loss SET evicted = evicted + ?2, evicted_calls = evicted_calls + ?3 WHERE class = ?1")?
        .execute(params![class.index(), extent.entries, calls])?;
    // What entries of an extent have in common goes with the last of them. Those behind it name nothing that is older than they are.
    if !is_part {
        let last = format!("SELECT seq FROM {} WHERE ordinal = ?1 - 1", class.as_str());
        let last = transaction.prepare_cached(&last)?.query_row([extent.end_ordinal()], |row| row.get(0))?;
        common::delete(transaction, class, Seq(last))?;
    }
    let entries = format!("DELETE FROM {} WHERE ordinal < ?1", class.as_str());
    transaction.prepare_cached(&entries)?.execute([extent.end_ordinal()])?;
    let account = "DELETE FROM extent WHERE class = ?1 AND first_ordinal < ?2";
    transaction.prepare_cached(account)?.execute(params![class.index(), extent.end_ordinal()]).map(drop)
}
