//! What to do with a damaged ring file: set it aside.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::{FILE_NAME, sync_dir, wal_of};
use super::{RingError, RingOptions};

/// How many damaged files are kept for whoever wants to look into them; older ones are removed.
const KEPT: usize = 3;

/// Moves a damaged ring out of the way, or what else stands at its name, under a name that says when. Nothing of the process has
/// it open.
pub(super) fn set_aside(options: &RingOptions, now_ms: i64) -> Result<(), RingError> {
    let database = options.state_dir.join(FILE_NAME);
    if database.symlink_metadata().is_ok() {
        let aside = free_name(&options.state_dir, now_ms);
        rename(&database, &aside)?;
        // A power cut here leaves a WAL without a database, which the next start takes aside.
        if wal_of(&database).exists() {
            rename(&wal_of(&database), &wal_of(&aside))?;
        }
        log::error!("what was {} is kept as {}", database.display(), aside.display());
        forget_old(&options.state_dir);
    }
    sync(&options.state_dir)
}

/// Moves a WAL out of the way that has lost its database: it may hold entries.
pub(super) fn clear_orphans(options: &RingOptions, now_ms: i64) -> Result<(), RingError> {
    let wal = wal_of(&options.state_dir.join(FILE_NAME));
    match wal.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.len() == 0 => {
            return fs::remove_file(&wal).map_err(|source| RingError::File { act: "remove", path: wal, source });
        }
        Ok(_) => {}
    }
    let aside = wal_of(&free_name(&options.state_dir, now_ms));
    rename(&wal, &aside)?;
    log::error!("{} has no database; it is kept as {}", wal.display(), aside.display());
    sync(&options.state_dir)
}

/// A name that sorts behind those of all files that are kept, also where the clock went back.
fn free_name(state_dir: &Path, now_ms: i64) -> PathBuf {
    let newest = kept_aside(state_dir).last().map_or(i64::MIN, |path| number(path));
    state_dir.join(format!("{FILE_NAME}.damaged-{}", now_ms.max(newest.saturating_add(1))))
}

/// The milliseconds in a damaged file's name; of another name, nothing newer.
fn number(path: &Path) -> i64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.rsplit_once(".damaged-").and_then(|(_, number)| number.parse().ok()).unwrap_or(i64::MIN)
}

fn sync(state_dir: &Path) -> Result<(), RingError> {
    let failed = |source| RingError::File { act: "sync the state folder", path: state_dir.to_owned(), source };
    sync_dir(state_dir).map_err(failed)
}

/// The damaged files that are kept in the state folder, oldest first.
pub fn kept_aside(state_dir: &Path) -> Vec<PathBuf> {
    let prefix = format!("{FILE_NAME}.damaged-");
    let files =
        fs::read_dir(state_dir).into_iter().flatten().filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut kept: Vec<_> = files
        .filter(|name| name.starts_with(&prefix))
        // A WAL that has lost its database stands for itself.
        .map(|name| state_dir.join(name.strip_suffix("-wal").unwrap_or(&name)))
        .collect();
    kept.sort_by_key(|path| number(path));
    kept.dedup();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_files_are_kept_also_where_the_clock_went_back() {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = [9_000_000_000_000, 1_000, 999, 2_000];
        let names: Vec<_> = now_ms
            .into_iter()
            .map(|now_ms| {
                let name = free_name(dir.path(), now_ms);
                fs::write(&name, "").unwrap();
                forget_old(dir.path());
                assert!(name.exists(), "what was just set aside is kept");
                name
            })
            .collect();
        assert_eq!(kept_aside(dir.path()), names[1..]);
    }
}
