//! What to do with a damaged ring file: set it aside and count on.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::file::{FILE_NAME, wal_of};
use super::reserve::SeqReserve;
use super::{RingError, RingOptions};
use crate::audit::class::Class;
use crate::audit::entry::Seq;

/// How many damaged files are kept for whoever wants to look into them; older ones are removed.
const KEPT: usize = 3;

/// Moves a damaged ring out of the way, under a name that says when. Gives the seq after which the new ring counts on.
pub(super) fn set_aside(options: &RingOptions) -> Result<Seq, RingError> {
    let database = options.state_dir.join(FILE_NAME);
    let given = SeqReserve::open(&options.state_dir).end().max(last_readable_seq(&database));
    let aside = options.state_dir.join(format!("{FILE_NAME}.damaged-{}", options.started_ms));
    log::error!("{} is damaged; it is kept as {}", database.display(), aside.display());
    rename(&database, &aside)?;
    if wal_of(&database).exists() {
        rename(&wal_of(&database), &wal_of(&aside))?;
    }
    forget_old(&options.state_dir);
    Ok(given)
}

/// The damaged files that are kept in the state folder, oldest first.
pub fn kept_aside(state_dir: &Path) -> Vec<PathBuf> {
    let prefix = format!("{FILE_NAME}.damaged-");
    let is_damaged = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&prefix) && !name.ends_with("-wal")
    };
    let files = fs::read_dir(state_dir).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()));
    let mut kept: Vec<_> = files.filter(is_damaged).collect();
    kept.sort();
    kept
}

fn rename(from: &Path, to: &Path) -> Result<(), RingError> {
    fs::rename(from, to).map_err(|source| RingError::File { act: "set aside", path: from.to_owned(), source })
}

fn forget_old(state_dir: &Path) {
    let kept = kept_aside(state_dir);
    for old in &kept[..kept.len().saturating_sub(KEPT)] {
        log::warn!("{} is removed: {KEPT} newer damaged files are kept", old.display());
        // What can't be removed is tried again the next time.
        let _ = fs::remove_file(wal_of(old));
        let _ = fs::remove_file(old);
    }
}

/// The highest seq that can still be read from a damaged ring; 0 where there is none.
fn last_readable_seq(database: &Path) -> Seq {
    let Ok(connection) = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return Seq(0);
    };
    let newest = |class: Class| {
        let sql = format!("SELECT seq FROM {} ORDER BY ordinal DESC LIMIT 1", class.as_str());
        connection.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
    };
    Seq(Class::ALL.into_iter().map(newest).max().unwrap_or(0))
}
