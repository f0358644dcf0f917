//! The ring file as a file: made, opened, checked, given its space on the disk.

use std::ffi::c_int;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use rusqlite::config::DbConfig;
use rusqlite::ffi::{SQLITE_FCNTL_CHUNK_SIZE, SQLITE_FCNTL_SIZE_HINT, SQLITE_OK, sqlite3_file_control};
use rusqlite::{Connection, OpenFlags};

use super::error::{During as _, is_damage};
use super::look::{Found, look, refuse_newer};
use super::make::{self, Beginning};
use super::migrate::migrate;
use super::{RingError, RingOptions};
use crate::audit::budget::{Budget, PAGE_BYTES};

/// Name of the ring file in the state folder.
pub const FILE_NAME: &str = "ring.sqlite";

/// "noda": says of an SQLite file that it is a ring (`PRAGMA application_id`).
pub(super) const APPLICATION_ID: i32 = 0x6e6f_6461;

/// A ring with more in it is not compacted: it would take so much memory, which the unit bounds, and time before the agent is ready.
const COMPACTED_MAX_BYTES: u64 = 256 << 20;

/// Takes the state folder for this process alone, for as long as the file lives that is given back.
pub(super) fn lock(state_dir: &Path) -> Result<File, RingError> {
    let failed = |act| move |source| RingError::File { act, path: state_dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed("make the state folder"))?;
    let lock = File::open(state_dir).map_err(failed("open the state folder"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(RingError::InUse { state_dir: state_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock the state folder")(source)),
    }
}

/// Opens the ring file for writing; makes it where there is none. Closed by [`close_untouched`] or after [`keep_tidy`].
pub(super) fn open(options: &RingOptions, budget: Budget, beginning: &Beginning) -> Result<Connection, RingError> {
    let path = options.state_dir.join(FILE_NAME);
    if look(&path)? == Found::Nothing {
        make::make(options, beginning)?;
    }
    let mut connection = connect(&path)?;
    let opened = refuse_newer(&connection, &path)
        .and_then(|()| configure(&connection, budget).during("configure the ring file"))
        .and_then(|()| grow_at_once(&connection, budget).during("reserve the ring file's space"))
        .and_then(|()| migrate(&mut connection).during("bring the ring to the present schema"));
    match opened {
        Ok(()) => Ok(connection),
        Err(error) => {
            close_untouched(connection);
            Err(error)
        }
    }
}

/// A connection that leaves the files as they are when it is dropped.
pub(super) fn connect(path: &Path) -> Result<Connection, RingError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).during("open the ring file")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).during("configure the ring file")?;
    Ok(connection)
}

/// From now on the WAL goes into the database when the connection is dropped, so that one file is the whole ring.
pub(super) fn keep_tidy(connection: &Connection) -> Result<(), RingError> {
    let kept = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    kept.map(drop).during("configure the ring file")
}

/// Closes the connection and leaves the files as they are. Otherwise SQLite would write on a damaged file, and would remove by its
/// name what may be another ring's WAL by then.
pub(super) fn close_untouched(connection: Connection) {
    // It can't fail: the option is known, and a connection that can't be closed is dropped.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(connection);
}

/// What was made or renamed in a folder survives a power cut only when the folder itself is synced.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn configure(connection: &Connection, budget: Budget) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Another program that reads the file may hold its lock for a moment.
    connection.busy_timeout(super::wal::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -2_048)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What is bound has its type and its bounds; the constraints are for other programs, and cost a fifteenth of storing an entry.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", budget.wal_bytes())?;
    // Not stored in the file: has to be set on every open.
    connection.pragma_update(None, "max_page_count", budget.pages())
}

/// Pages of the database that hold something.
pub(super) fn pages_used(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let used = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(u64::try_from(used).unwrap_or(0))
}

/// Gives the disk back what a ring no longer may use, after its limit was lowered.
///
/// Best effort: a file that is too large serves as well, and the agent has to start. SQLite makes the copy in memory.
pub(super) fn shrink(connection: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?;
    if u64::try_from(pages).unwrap_or(0) <= budget.pages() {
        return Ok(());
    }
    if pages_used(connection)? * PAGE_BYTES > COMPACTED_MAX_BYTES {
        log::warn!("the ring file keeps its size: what is left in it is too much for a copy in memory");
        return Ok(());
    }
    match connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)") {
        Err(error) if is_damage(&error) => Err(error),
        Err(error) => {
            log::warn!("the ring file keeps its size until the next start: {error}");
            Ok(())
        }
        Ok(()) => connection.pragma_update(None, "max_page_count", budget.pages()),
    }
}

/// Has the database take all the space that it may ever need at once, and keep it: the ring goes on when something else has
/// filled the disk.
///
/// Best effort as far as the disk has less: then it grows when it has to.
#[expect(unsafe_code, reason = "rusqlite does not wrap sqlite3_file_control()")]
fn grow_at_once(connection: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let mut chunk_bytes = c_int::try_from(budget.chunk_bytes()).unwrap_or(c_int::MAX);
    let mut size_bytes = i64::from(chunk_bytes);
    // SAFETY: the handle is that of an open connection, which outlives both calls; a null name is the main database;
    // SQLITE_FCNTL_CHUNK_SIZE reads one C int behind the pointer and SQLITE_FCNTL_SIZE_HINT one 64-bit integer (sqlite3.h), which
    // are ours and live.
    let (chunks, size) = unsafe {
        let (handle, main) = (connection.handle(), std::ptr::null());
        let chunks = sqlite3_file_control(handle, main, SQLITE_FCNTL_CHUNK_SIZE, (&raw mut chunk_bytes).cast());
        (chunks, sqlite3_file_control(handle, main, SQLITE_FCNTL_SIZE_HINT, (&raw mut size_bytes).cast()))
    };
    if size != SQLITE_OK {
        log::warn!("can't reserve {chunk_bytes} bytes for the ring file; it grows when it has to");
    }
    match chunks {
        SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)),
    }
}

/// Has the WAL keep the space that it may ever need. It exists only after the first transaction.
///
/// Best effort: a file system that can't reserve gives what it has when it is asked.
pub(super) fn reserve_wal(options: &RingOptions, budget: Budget) {
    let wal = wal_of(&options.state_dir.join(FILE_NAME));
    let reserved = OpenOptions::new().write(true).open(&wal).and_then(|file| {
        let bytes = i64::try_from(budget.wal_bytes()).unwrap_or(i64::MAX);
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes).map_err(io::Error::from)
    });
    if let Err(error) = reserved {
        log::warn!("can't reserve {} bytes for {}: {error}", budget.wal_bytes(), wal.display());
    }
}

/// The WAL of a database.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// The shared memory that indexes the WAL of a database.
pub(super) fn shm_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

/// A file beside another one, named after it.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
