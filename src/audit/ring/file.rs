//! The ring file as a file: made, opened, checked, given its space on the disk.

use std::ffi::c_int;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::config::DbConfig;
use rusqlite::ffi::{SQLITE_FCNTL_CHUNK_SIZE, SQLITE_OK, sqlite3_file_control};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::error::During as _;
use super::{RingError, RingOptions};
use crate::audit::budget::{Budget, PAGE_BYTES};
use crate::audit::class::Class;
use crate::audit::entry::Seq;

/// Name of the ring file in the state folder.
pub const FILE_NAME: &str = "ring.sqlite";

/// The schema that this agent writes (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i32 = 2;

/// "noda": says of an SQLite file that it is a ring (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x6e6f_6461;
const SCHEMA: &str = include_str!("../schema.sql");

/// What makes a ring of each older version one of the next, the oldest version first.
const MIGRATIONS: [&str; 1] = ["ALTER TABLE ring ADD COLUMN origin TEXT NOT NULL DEFAULT 'first'
        CHECK (origin IN ('first', 'damaged', 'missing'));
    ALTER TABLE loss ADD COLUMN coalesced INTEGER NOT NULL DEFAULT 0 CHECK (coalesced >= 0);
    ALTER TABLE loss ADD COLUMN evicted_calls INTEGER NOT NULL DEFAULT 0;
    UPDATE loss SET evicted_calls = evicted;
    ALTER TABLE denied ADD COLUMN calls INTEGER NOT NULL DEFAULT 1 CHECK (calls > 0);
    ALTER TABLE denied ADD COLUMN span_us INTEGER NOT NULL DEFAULT 0 CHECK (span_us >= 0);"];

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

/// Opens the ring file for writing; makes it where there is none.
pub(super) fn open(options: &RingOptions, budget: Budget, seq_base: Seq) -> Result<Connection, RingError> {
    let path = options.state_dir.join(FILE_NAME);
    create_private(&options.state_dir, &path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).during("open the ring file")?;
    configure(&connection, budget).during("configure the ring file")?;
    grow_at_once(&connection, budget).during("reserve the ring file's space")?;
    match versions(&connection).during("read the ring's version")? {
        (0, 0) if is_empty(&connection).during("read the ring's tables")? => {
            create_schema(&mut connection, options, seq_base)?;
        }
        (APPLICATION_ID, version @ 1..=SCHEMA_VERSION) => {
            migrate(&mut connection, version).during("bring the ring to the present schema")?;
        }
        (APPLICATION_ID, newer) => {
            let reason = format!("its schema version is {newer}, the newest known here is {SCHEMA_VERSION}");
            return Err(RingError::Foreign { path, reason });
        }
        _ => {
            return Err(RingError::Foreign { path, reason: "it is another program's SQLite file".to_owned() });
        }
    }
    Ok(connection)
}

/// The ring file with mode 0600, which SQLite gives its WAL too.
fn create_private(state_dir: &Path, path: &Path) -> Result<(), RingError> {
    let failed = |act, path: &Path| {
        let path = path.to_owned();
        move |source| RingError::File { act, path, source }
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => sync_dir(state_dir).map_err(failed("sync the state folder", state_dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make the ring file", path)(error)),
    }
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
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", budget.wal_bytes())?;
    // Not stored in the file: has to be set on every open.
    connection.pragma_update(None, "max_page_count", budget.pages())
}

/// Application ID and schema version.
fn versions(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create_schema(connection: &mut Connection, options: &RingOptions, seq_base: Seq) -> Result<(), RingError> {
    let epoch = uuid::Builder::from_random_bytes(random()?).into_uuid();
    let create = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute(
            "INSERT INTO ring (id, epoch, created_ms, seq_base) VALUES (1, ?1, ?2, ?3)",
            params![epoch.as_bytes(), options.started_ms, seq_base.0],
        )?;
        for class in Class::ALL {
            let sql = "INSERT INTO loss (class, evicted, dropped, interrupted) VALUES (?1, 0, 0, 0)";
            transaction.execute(sql, [class.index()])?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    create(connection).during("make the ring's tables")?;
    log::info!("new ring with epoch {epoch}");
    Ok(())
}

/// Brings an older ring to the present schema, all steps or none.
fn migrate(connection: &mut Connection, version: i32) -> rusqlite::Result<()> {
    let done = usize::try_from(version - 1).unwrap_or(0);
    let steps = &MIGRATIONS[done..];
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    steps.iter().try_for_each(|step| transaction.execute_batch(step))?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    log::info!("the ring is brought from schema version {version} to {SCHEMA_VERSION}");
    Ok(())
}

/// Stores that a run begins, forgets runs that no entry names any more, and gives the run's number and its tag.
pub(super) fn begin_run(connection: &mut Connection, options: &RingOptions) -> Result<(i64, u32), RingError> {
    let tag = u32::from_le_bytes(random()?) & 0xff_ffff;
    let run = insert_run(connection, options, tag).during("store the start of this run")?;
    Ok((run, tag))
}

fn insert_run(connection: &mut Connection, options: &RingOptions, tag: u32) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT INTO run (tag, boot_id, started_ms, version) VALUES (?1, ?2, ?3, ?4)",
        params![tag, options.boot_id.as_bytes(), options.started_ms, env!("CARGO_PKG_VERSION")],
    )?;
    let run = transaction.last_insert_rowid();
    transaction.execute(
        "DELETE FROM run WHERE number < min(?1,
            coalesce((SELECT run FROM change ORDER BY ordinal LIMIT 1), ?1),
            coalesce((SELECT run FROM read ORDER BY ordinal LIMIT 1), ?1),
            coalesce((SELECT run FROM denied ORDER BY ordinal LIMIT 1), ?1),
            coalesce((SELECT min(run) FROM intent), ?1))",
        [run],
    )?;
    transaction.commit()?;
    Ok(run)
}

/// Pages of the database that hold something.
pub(super) fn pages_used(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let used = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(u64::try_from(used).unwrap_or(0))
}

/// Gives the disk back what a ring no longer may use, after its limit was lowered.
pub(super) fn shrink(connection: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?;
    if u64::try_from(pages).unwrap_or(0) <= budget.pages() {
        return Ok(());
    }
    connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
    connection.pragma_update(None, "max_page_count", budget.pages())
}

/// Has the database take all the space that it may ever need at once, and keep it: the ring goes on when something else has
/// filled the disk.
#[expect(unsafe_code, reason = "rusqlite does not wrap sqlite3_file_control()")]
fn grow_at_once(connection: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let mut chunk_bytes = c_int::try_from(budget.chunk_bytes()).unwrap_or(c_int::MAX);
    // SAFETY: the handle is that of an open connection, which outlives the call; a null name is the main database; and
    // SQLITE_FCNTL_CHUNK_SIZE reads one C int behind the pointer (sqlite3.h), which is ours and live.
    let code = unsafe {
        let file = SQLITE_FCNTL_CHUNK_SIZE;
        sqlite3_file_control(connection.handle(), std::ptr::null(), file, (&raw mut chunk_bytes).cast())
    };
    match code {
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
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

fn random<const N: usize>() -> Result<[u8; N], RingError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RingError::Random)?;
    Ok(bytes)
}
