//! What a connection remembers of the ring: what never changes once it is stored.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::Transaction;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::common::{COMMON_VALUES, Common};
use super::rows;
use super::values::Values;
use crate::audit::class::Class;
use crate::audit::ring::{COMMON_COLUMNS, damaged};

/// A run of the agent: the boot it ran in and the tag of the IDs that it gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) boot_id: Uuid,
    pub(super) tag: u32,
}

/// Operation ID and permission.
pub(super) type OperationNames = Arc<(Box<str>, Box<str>)>;

/// So many seqs are remembered: enough for the way to any page of the largest ring.
const SEQS_REMEMBERED: usize = 4096;

/// Of what entries have in common so many rows are remembered: those of a page, or of some extents.
const COMMONS_REMEMBERED: usize = 256;

/// What the ring says of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) epoch: [u8; 16],
    /// Up to this seq rows may have no sum.
    pub(super) sums_after: Option<u64>,
    /// Up to this seq rows hold their call themselves.
    pub(super) calls_inline_until: Option<u64>,
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
        let seq = rows::with_row(transaction, self, class, ordinal, |values, _| values.get(rows::SEQ))?;
        if self.seqs.len() >= SEQS_REMEMBERED {
            self.seqs.clear();
        }
        self.seqs.insert(key, seq);
        Ok(seq)
    }

    pub(super) fn facts(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Facts> {
        if let Some(facts) = self.facts {
            return Ok(facts);
        }
        let sql = "SELECT epoch, sums_after, calls_inline_until FROM ring";
        let facts = transaction.query_row(sql, [], |row| {
            Ok(Facts { epoch: row.get(0)?, sums_after: row.get(1)?, calls_inline_until: row.get(2)? })
        })?;
        Ok(*self.facts.insert(facts))
    }

    pub(super) fn run(&mut self, transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<Run> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(*run);
        }
        let run = transaction
            .prepare_cached("SELECT boot_id, tag FROM run WHERE number = ?1")?
            .query_row([number], |row| Ok(Run { boot_id: Uuid::from_bytes(row.get(0)?), tag: row.get(1)? }))?;
        self.runs.insert(number, run);
        Ok(run)
    }

    pub(super) fn operation(&mut self, transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<OperationNames> {
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
    pub(super) fn common(
        &mut self,
        transaction: &Transaction<'_>,
        class: Class,
        number: u64,
    ) -> rusqlite::Result<&Common> {
        let key = (class, number);
        if !self.commons.contains_key(&key) {
            let sql = format!("SELECT {COMMON_COLUMNS} FROM {}_common WHERE number = ?1", class.as_str());
            let mut statement = transaction.prepare_cached(&sql)?;
            let mut found = statement.query([number])?;
            let row = found.next()?.ok_or_else(|| damaged("an entry names what is not there"))?;
            let mut values = [ValueRef::Null; COMMON_VALUES];
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
