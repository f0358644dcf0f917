//! What stands at the ring file's name before anything opens it: a ring, nothing yet, or what must not be touched.
//!
//! SQLite trusts the header of a file: one flipped bit there makes a ring read-only, another program's, or one of a newer agent. So
//! the header is looked at first, with plain reads.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::{During as _, is_damage};
use super::file::{APPLICATION_ID, wal_of};
use super::version::SchemaVersion;
use super::{RingError, wal_check};

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No ring, and no file that would be in the way of one.
    Nothing,
    /// A ring, as far as its header says.
    Ring,
}

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What the header of every ring holds at these offsets: page size, no reserved space, the payload fractions, schema format 4,
/// no automatic vacuum, UTF-8 (<https://sqlite.org/fileformat2.html>).
const FIXED: [(usize, &[u8]); 5] =
    [(16, &[0x10, 0]), (20, &[0, 64, 32, 32]), (44, &[0, 0, 0, 4]), (52, &[0; 4]), (56, &[0, 0, 0, 1])];

/// Looks at the file. To be called while no connection of this process is open: closing a file gives up all locks on it.
pub(super) fn look(path: &Path) -> Result<Found, RingError> {
    let failed = |act| move |source| RingError::File { act, path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !metadata.is_file() {
        return Err(foreign(path, "it is no regular file"));
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed("open"))?;
    let has_wal = fs::metadata(wal_of(path)).is_ok_and(|wal| wal.len() > 0);
    if metadata.len() == 0 && !has_wal {
        // A ring is made under another name. Whoever made this one has put nothing in.
        fs::remove_file(path).map_err(failed("replace the empty file"))?;
        return Ok(Found::Nothing);
    }
    let header = read_header(&mut file).map_err(failed("read"))?;
    drop(file);
    let Some(header) = header.filter(|header| header.starts_with(MAGIC)) else {
        return Err(damage(path, "it does not begin as an SQLite file does"));
    };
    let number =
        |offset: usize| i32::from_be_bytes(header[offset..offset + 4].try_into().expect("four bytes are four bytes"));
    let (is_named_ring, version) = (number(68) == APPLICATION_ID, SchemaVersion::of_number(number(60)));
    if !(is_named_ring && version.is_known()) && inquire(path, is_named_ring, version, has_wal)? == Found::Nothing {
        return Ok(Found::Nothing);
    }
    if !is_sound(&header) {
        return Err(damage(path, "its header is not that of a ring"));
    }
    let wal = wal_of(path);
    let failed = |source| RingError::File { act: "read", path: wal.clone(), source };
    if wal_check::is_damaged(&wal, path).map_err(failed)? {
        return Err(RingError::Damaged { path: wal, reason: "it goes on behind what is not right" });
    }
    Ok(Found::Ring)
}

/// The header; none where the file ends before.
fn read_header(file: &mut File) -> io::Result<Option<[u8; HEADER_BYTES]>> {
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) => Ok(Some(header)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_sound(header: &[u8; HEADER_BYTES]) -> bool {
    // Write and read version: 2 is WAL, 1 where the last agent could not set it.
    let versions = header[18..20].iter().all(|version| matches!(version, 1 | 2));
    versions && FIXED.iter().all(|(offset, bytes)| header[*offset..].starts_with(bytes))
}

/// The header names no ring of a version that is known here. Whether it lies is told by the tables.
fn inquire(path: &Path, is_named_ring: bool, version: SchemaVersion, has_wal: bool) -> Result<Found, RingError> {
    let tables = Tables::read(path).during("read the ring's tables");
    match tables {
        Err(error) => Err(error),
        Ok(Tables::Ring(Some(told))) if is_named_ring && told == version && version.is_readable() => {
            log::info!(
                "the ring is of schema version {version}: what is newer in it than {} is kept",
                SchemaVersion::CURRENT
            );
            Ok(Found::Ring)
        }
        Ok(Tables::Ring(Some(told))) if is_named_ring && told == version => Err(too_new(path, version)),
        Ok(Tables::Ring(_)) => Err(damage(path, "its header is not that of a ring")),
        Ok(Tables::None { pages: 0 | 1 }) if !is_named_ring && !has_wal => {
            let failed = |source| RingError::File { act: "replace the empty file", path: path.to_owned(), source };
            fs::remove_file(path).map_err(failed)?;
            Ok(Found::Nothing)
        }
        Ok(Tables::None { .. }) if has_wal => Err(damage(path, "its tables are gone, its WAL is not")),
        Ok(Tables::None { .. } | Tables::Other) if is_named_ring => Err(damage(path, "its tables are gone")),
        Ok(Tables::None { .. } | Tables::Other) => Err(foreign(path, "it is another program's SQLite file")),
    }
}

/// Refuses a ring of a newer agent that shows as one only with its WAL: the header of the database may be older.
pub(super) fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), RingError> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, SchemaVersion>(0));
    match version.during("read the ring's version")? {
        version if version.is_readable() => Ok(()),
        version => Err(too_new(path, version)),
    }
}

fn too_new(path: &Path, version: SchemaVersion) -> RingError {
    let newest = SchemaVersion::CURRENT;
    foreign(path, &format!("its schema version is {version}, the newest that can be read here is {newest}"))
}

/// The tables of an SQLite file.
enum Tables {
    /// It has none, and so many pages.
    None { pages: u64 },
    /// Those of a ring, which tells its schema version from the second on.
    Ring(Option<SchemaVersion>),
    /// Other ones.
    Other,
}

impl Tables {
    /// Reads them without a lock and without a trace: what is found may be another program's.
    fn read(path: &Path) -> rusqlite::Result<Self> {
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*byte)),
                byte => write!(uri, "%{byte:02X}").expect("writing to a String does not fail"),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags)?;
        let is_empty = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        if is_empty {
            let pages = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            return Ok(Self::None { pages });
        }
        let ask = |column: &str| {
            connection.query_row(&format!("SELECT {column} FROM ring WHERE length(epoch) = 16"), [], |row| row.get(0))
        };
        match (ask("schema_version"), ask("1")) {
            (Ok(version), _) => Ok(Self::Ring(Some(version))),
            (Err(_), Ok(_)) => Ok(Self::Ring(None)),
            (Err(_), Err(error)) if is_damage(&error) && has_code(&error) => Err(error),
            (Err(_), Err(_)) => Ok(Self::Other),
        }
    }
}

/// Whether SQLite itself found the file damaged. That it has no such table says nothing here.
fn has_code(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn foreign(path: &Path, reason: &str) -> RingError {
    RingError::Foreign { path: path.to_owned(), reason: reason.to_owned() }
}

fn damage(path: &Path, reason: &'static str) -> RingError {
    RingError::Damaged { path: path.to_owned(), reason }
}
