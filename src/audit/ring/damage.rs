//! What to do with a damaged ring file: set it aside.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::{FILE_NAME, sync_dir, wal_of};
use super::{RingError, RingOptions};

/// How many damaged files are kept for whoever wants to look into them; older ones are removed.
const KEPT: usize = 3;

/// Moves a damaged ring out of the way, under a name that says when.
pub(super) fn set_aside(options: &RingOptions) -> Result<(), RingError> {
    let database = options.state_dir.join(FILE_NAME);
    let aside = options.state_dir.join(format!("{FILE_NAME}.damaged-{}", options.started_ms));
    log::error!("{} is damaged; it is kept as {}", database.display(), aside.display());
    rename(&database, &aside)?;
    if wal_of(&database).exists() {
        rename(&wal_of(&database), &wal_of(&aside))?;
    }
    forget_old(&options.state_dir);
    sync_dir(&options.state_dir).map_err(|source| RingError::File {
        act: "sync the state folder",
        path: options.state_dir.clone(),
        source,
    })
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
