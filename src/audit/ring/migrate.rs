//! A ring of an older schema version becomes one of the present version, in place and without a look at its rows.

use rusqlite::{Connection, TransactionBehavior};

use super::version::SchemaVersion;

/// What makes a ring of each major version one of the next.
const STEPS: [&str; SchemaVersion::CURRENT.major as usize - 1] =
    [include_str!("../migrations/to-2.sql"), include_str!("../migrations/to-3.sql")];

/// Brings an older ring to the present schema, all steps or none. One of a newer minor version stays what it is.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: SchemaVersion = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let steps = usize::from(version.major).checked_sub(1).and_then(|known| STEPS.get(known..));
    let Some(steps @ [_, ..]) = steps else { return Ok(()) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    steps.iter().try_for_each(|step| transaction.execute_batch(step))?;
    transaction.execute("UPDATE ring SET schema_version = ?1", [SchemaVersion::CURRENT])?;
    transaction.pragma_update(None, "user_version", SchemaVersion::CURRENT)?;
    transaction.commit()?;
    log::info!("the ring is brought from schema version {version} to {}", SchemaVersion::CURRENT);
    Ok(())
}
