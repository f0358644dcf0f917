//! Whether a WAL that was left behind is damaged in what had been synced.
//!
//! SQLite reads a WAL up to the first frame that is not right, and takes that for its end: as after a power cut, which can only take the
//! last transaction, because each is synced before the next one is written. But after a flipped bit further up, everything behind it
//! would be gone without a word. So: where a frame is not right, and behind it a transaction ends and another one goes on from there, the
//! WAL did not end there (<https://sqlite.org/walformat.html>). That a WAL was cut off, or is
//! damaged in its last transaction, can't be told from a power cut.
//!
//! A power cut can also tear the header, as the WAL starts again from its beginning. The frames behind it are then of the turn before, and
//! all of them are in the database: where they are, nothing is missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::audit::budget::{PAGE_BYTES, WAL_MAX_BYTES};

#[expect(clippy::cast_possible_truncation, reason = "a page is smaller than any address space")]
const PAGE: usize = PAGE_BYTES as usize;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first word of a WAL; its last bit says in which order the bytes of a word are summed.
const MAGIC: u32 = 0x377f_0682;

/// Whether the WAL of a database ends before its end. False where there is none.
pub(super) fn is_damaged(wal: &Path, database: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    match File::open(wal) {
        Ok(file) => file.take(WAL_MAX_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(wal) = Wal::new(&bytes) else {
        return Ok(false);
    };
    Ok(wal.ends_early() && !(wal.salts.is_none() && wal.is_all_in(&File::open(database)?)?))
}

/// A WAL as it lies on the disk.
struct Wal<'a> {
    frames: Vec<Frame<'a>>,
    /// The salts of its present turn, and whether sums are of words with the highest byte first. None: the header is not right.
    salts: Option<((u32, u32), bool)>,
    header_sum: (u32, u32),
}

impl<'a> Wal<'a> {
    /// None where there is less than a header.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, frames) = bytes.split_at_checked(HEADER)?;
        let magic = word(header, 0);
        let is_big_endian = magic & 1 == 1;
        let header_sum = (word(header, 24), word(header, 28));
        let is_sound = magic & !1 == MAGIC && summed((0, 0), &header[..HEADER - 8], is_big_endian) == header_sum;
        Some(Self {
            frames: frames.chunks_exact(FRAME_HEADER + PAGE).map(Frame).collect(),
            salts: is_sound.then(|| ((word(header, 16), word(header, 20)), is_big_endian)),
            header_sum,
        })
    }

    fn follows(&self, sum: (u32, u32), frame: &Frame<'_>) -> bool {
        match self.salts {
            // Frames with other salts are of an earlier turn, which has been moved into the database.
            Some((salts, is_big_endian)) => frame.salts() == salts && frame.follows(sum, is_big_endian),
            None => [true, false].into_iter().any(|is_big_endian| frame.follows(sum, is_big_endian)),
        }
    }

    /// Whether the second of two frames goes on from the first.
    fn goes_on(&self, pair: &[Frame<'_>]) -> bool {
        pair[0].salts() == pair[1].salts() && self.follows(pair[0].sum(), &pair[1])
    }

    fn ends_early(&self) -> bool {
        let mut sum = self.header_sum;
        let right = self.frames.iter().take_while(|frame| {
            let is_right = self.salts.is_some() && self.follows(sum, frame);
            sum = frame.sum();
            is_right
        });
        let right = right.count();
        self.frames[right..].windows(2).any(|pair| pair[0].ends_transaction() && self.goes_on(pair))
    }

    /// Whether all that its frames hold is in the database: of each run of frames that follow each other the last of each page, up to
    /// where the last transaction ends.
    fn is_all_in(&self, database: &File) -> io::Result<bool> {
        let mut from = 0;
        while from < self.frames.len() {
            let linked = self.frames[from..].windows(2).take_while(|pair| self.goes_on(pair)).count();
            let run = &self.frames[from..=from + linked];
            let ended = run.iter().rposition(Frame::ends_transaction).map_or(0, |last| last + 1);
            // Where a page stands twice, the later one counts.
            let pages: BTreeMap<_, _> = run[..ended].iter().map(|frame| (frame.page_number(), frame.page())).collect();
            let mut stored = [0; PAGE];
            for (number, page) in pages {
                let at = u64::from(number.saturating_sub(1)) * PAGE_BYTES;
                match database.read_exact_at(&mut stored, at) {
                    Ok(()) if stored == *page => {}
                    Ok(()) => return Ok(false),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            from += linked + 1;
        }
        Ok(true)
    }
}

/// A page in the WAL, and its header before it.
struct Frame<'a>(&'a [u8]);

impl Frame<'_> {
    fn page_number(&self) -> u32 {
        word(self.0, 0)
    }

    fn page(&self) -> &[u8] {
        &self.0[FRAME_HEADER..]
    }

    fn ends_transaction(&self) -> bool {
        word(self.0, 4) != 0
    }

    fn salts(&self) -> (u32, u32) {
        (word(self.0, 8), word(self.0, 12))
    }

    fn sum(&self) -> (u32, u32) {
        (word(self.0, 16), word(self.0, 20))
    }

    /// Whether its sum goes on from that of the frame before it.
    fn follows(&self, before: (u32, u32), is_big_endian: bool) -> bool {
        let sum = summed(before, &self.0[..8], is_big_endian);
        summed(sum, self.page(), is_big_endian) == self.sum()
    }
}

/// Numbers are stored with the highest byte first, whatever the order in which they are summed.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

fn summed((mut even, mut odd): (u32, u32), bytes: &[u8], is_big_endian: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let read = |at: usize| if is_big_endian { word(pair, at) } else { word(pair, at).swap_bytes() };
        even = even.wrapping_add(read(0)).wrapping_add(odd);
        odd = odd.wrapping_add(read(4)).wrapping_add(even);
    }
    (even, odd)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    fn ends_early(wal: &[u8]) -> bool {
        Wal::new(wal).is_some_and(|wal| wal.ends_early())
    }

    /// A WAL of some transactions of a few frames each.
    fn wal() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)")
            .unwrap();
        for _ in 0..5 {
            connection.execute("INSERT INTO t VALUES (randomblob(9000))", []).unwrap();
        }
        fs::read(dir.path().join("db-wal")).unwrap()
    }

    /// Where the frames begin.
    fn frames(wal: &[u8]) -> impl Iterator<Item = usize> {
        (HEADER..wal.len()).step_by(FRAME_HEADER + PAGE)
    }

    /// Where the last transaction begins.
    fn last(wal: &[u8]) -> usize {
        let ends: Vec<_> = frames(wal).filter(|&at| Frame(&wal[at..]).ends_transaction()).collect();
        ends[ends.len() - 2] + FRAME_HEADER + PAGE
    }

    #[test]
    fn any_flipped_bit_before_the_last_transaction_is_damage() {
        let whole = wal();
        assert!(!ends_early(&whole));
        // Bits of the header that mean nothing once its sum is wrong, and of each frame: page, salts, sum, and what it holds.
        let header = (0..HEADER).step_by(3);
        let each = frames(&whole)
            .take_while(|&at| at < last(&whole))
            .flat_map(|at| [0, 9, 17, 23, 24, 999, 4000].map(|of| at + of));
        // The sum and the salts of the frame just before it are all that say that the last transaction is another one.
        let link = last(&whole) - PAGE - FRAME_HEADER + 8..last(&whole) - PAGE;
        for at in header.chain(each).filter(|at| !link.contains(at)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(ends_early(&damaged), "at {at}");
        }
    }

    #[test]
    fn a_torn_end_is_that_of_a_power_cut() {
        let whole = wal();
        for at in (last(&whole)..whole.len()).step_by(777) {
            assert!(!ends_early(&whole[..at]), "cut at {at}");
            let mut torn = whole.clone();
            torn[at] ^= 0x10;
            assert!(!ends_early(&torn), "torn at {at}");
        }
        assert!(!ends_early(&[]));
        assert!(!ends_early(&vec![0; whole.len()]));
    }

    #[test]
    fn a_header_that_was_torn_as_the_wal_started_again_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let connection = Connection::open(&path).unwrap();
        let add = || connection.execute("INSERT INTO t VALUES (randomblob(9000))", []).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)")
            .unwrap();
        (0..5).for_each(|_| assert_eq!(add(), 1));
        let torn = |dir: &Path| {
            let mut bytes = fs::read(path.with_file_name("db-wal")).unwrap();
            bytes[..HEADER].fill(0xff);
            let wal = dir.join("torn-wal");
            fs::write(&wal, bytes).unwrap();
            is_damaged(&wal, &path).unwrap()
        };
        assert!(torn(dir.path()), "the database has none of it");
        let moved = "PRAGMA wal_checkpoint(FULL)";
        connection.query_row(moved, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(!torn(dir.path()), "the database has all of it");
        // The WAL has started again: what it holds now is not in the database.
        (0..2).for_each(|_| assert_eq!(add(), 1));
        assert!(torn(dir.path()), "the database lacks the new turn");
    }
}
