//! What entries have in common, as it is read: once for all of an extent that name it.

use std::net::IpAddr;

use rusqlite::Transaction;

use super::memory::{Memory, OperationNames, Run};
use super::values::Values;
use crate::audit::class::Class;
use crate::audit::ring::{Named, Sum, damaged};
use crate::auth::AuthMethod;

/// How many values it has.
pub(super) const COMMON_VALUES: usize = 10;

/// What a row has in common with others: who called from where, and what.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) run: Run,
    pub(super) method: Box<str>,
    pub(super) path: Box<str>,
    pub(super) operation: Option<OperationNames>,
    pub(super) user: Box<str>,
    pub(super) roles: Box<str>,
    pub(super) token_id: Option<Box<str>>,
    pub(super) auth_method: Option<&'static str>,
    pub(super) source_ip: IpAddr,
    pub(super) user_agent: Option<Box<str>>,
    /// The sum of what is named.
    pub(super) named: Sum,
    /// The sum of that and of these values.
    pub(super) sum: Sum,
}

impl Common {
    /// Reads it from values in the order of [`COMMON_COLUMNS`].
    pub(super) fn read(
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
