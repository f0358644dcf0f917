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
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::audit::budget::{FRAME_BYTES, PAGE_BYTES, WAL_MAX_BYTES};

#[expect(clippy::cast_possible_truncation, reason = "a page is smaller than any address space")]
const PAGE: usize = PAGE_BYTES as usize;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first word of a WAL; its last bit says in which order the bytes of a word are summed.
const MAGIC: u32 = 0x377f_0682;

/// Whether the WAL of a database ends before its end. False where there is none.
pub(super) fn is_damaged(wal: &Path, database: &Path) -> io::Result<bool> {
    let file = match File::open(wal) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(wal) = Wal::of(&file)? else {
        return Ok(false);
    };
    Ok(wal.ends_early()? && !(wal.salts.is_none() && wal.is_all_in(&File::open(database)?)?))
}

/// A WAL as it lies on the disk. It is read a frame at a time: what an agent takes of memory as it starts, it keeps.
struct Wal<'f> {
    file: &'f File,
    /// The salts of its present turn, and whether sums are of words with the highest byte first. None: the header is not right.
    salts: Option<((u32, u32), bool)>,
    header_sum: (u32, u32),
}

impl<'f> Wal<'f> {
    /// None where there is less than a header.
    fn of(file: &'f File) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER];
        if !is_read(file, &mut header, 0)? {
            return Ok(None);
        }
        let magic = word(&header, 0);
        let is_big_endian = magic & 1 == 1;
        let header_sum = (word(&header, 24), word(&header, 28));
        let is_sound = magic & !1 == MAGIC && summed((0, 0), &header[..HEADER - 8], is_big_endian) == header_sum;
        let salts = is_sound.then(|| ((word(&header, 16), word(&header, 20)), is_big_endian));
        Ok(Some(Self { file, salts, header_sum }))
    }

    /// The frame with that number, from 0 on. None: the file ends before its end.
    fn frame(&self, number: u64) -> io::Result<Option<Frame>> {
        let at = HEADER as u64 + number * FRAME_BYTES;
        let mut frame = Frame(vec![0; FRAME_HEADER + PAGE]);
        let is_whole = at + FRAME_BYTES <= WAL_MAX_BYTES && is_read(self.file, &mut frame.0, at)?;
        Ok(is_whole.then_some(frame))
    }

    fn frames(&self) -> impl Iterator<Item = io::Result<Frame>> {
        (0..).map_while(|number| self.frame(number).transpose())
    }

    fn follows(&self, sum: (u32, u32), frame: &Frame) -> bool {
        match self.salts {
            // Frames with other salts are of an earlier turn, which has been moved into the database.
            Some((salts, is_big_endian)) => frame.salts() == salts && frame.follows(sum, is_big_endian),
            None => [true, false].into_iter().any(|is_big_endian| frame.follows(sum, is_big_endian)),
        }
    }

    /// Whether a frame goes on from the one before it.
    fn goes_on(&self, before: &Frame, frame: &Frame) -> bool {
        before.salts() == frame.salts() && self.follows(before.sum(), frame)
    }

    fn ends_early(&self) -> io::Result<bool> {
        let (mut is_right, mut sum) = (self.salts.is_some(), self.header_sum);
        let mut before: Option<Frame> = None;
        for frame in self.frames() {
            let frame = frame?;
            if is_right {
                is_right = self.follows(sum, &frame);
                sum = frame.sum();
            } else if before.is_some_and(|before| before.ends_transaction() && self.goes_on(&before, &frame)) {
                return Ok(true);
            }
            before = (!is_right).then_some(frame);
        }
        Ok(false)
    }

    /// Whether all that its frames hold is in the database: of each run of frames that follow each other the last of each page, up to
    /// where the last transaction ends.
    fn is_all_in(&self, database: &File) -> io::Result<bool> {
        // Where a page stands twice, the later one counts.
        let (mut ended, mut open) = (BTreeMap::new(), Vec::new());
        let mut before: Option<Frame> = None;
        for (number, frame) in (0..).zip(self.frames()) {
            let frame = frame?;
            if before.is_some_and(|before| !self.goes_on(&before, &frame)) {
                if !self.are_in(&ended, database)? {
                    return Ok(false);
                }
                ended.clear();
                open.clear();
            }
            open.push((frame.page_number(), number));
            if frame.ends_transaction() {
                ended.extend(open.drain(..));
            }
            before = Some(frame);
        }
        self.are_in(&ended, database)
    }

    /// Whether pages are in the database as these frames have them.
    fn are_in(&self, frames: &BTreeMap<u32, u64>, database: &File) -> io::Result<bool> {
        let mut stored = [0; PAGE];
        for (page, &number) in frames {
            let at = u64::from(page.saturating_sub(1)) * PAGE_BYTES;
            let is_stored = is_read(database, &mut stored, at)?;
            if !is_stored || self.frame(number)?.is_none_or(|frame| *frame.page() != stored) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A page in the WAL, and its header before it.
struct Frame(Vec<u8>);

impl Frame {
    fn page_number(&self) -> u32 {
        word(&self.0, 0)
    }

    fn page(&self) -> &[u8] {
        &self.0[FRAME_HEADER..]
    }

    fn ends_transaction(&self) -> bool {
        word(&self.0, 4) != 0
    }

    fn salts(&self) -> (u32, u32) {
        (word(&self.0, 8), word(&self.0, 12))
    }

    fn sum(&self) -> (u32, u32) {
        (word(&self.0, 16), word(&self.0, 20))
    }

    /// Whether its sum goes on from that of the frame before it.
    fn follows(&self, before: (u32, u32), is_big_endian: bool) -> bool {
        let sum = summed(before, &self.0[..8], is_big_endian);
        summed(sum, self.page(), is_big_endian) == self.sum()
    }
}

/// Whether a file has as many bytes there. It may have become shorter since it was looked at.
fn is_read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
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
    use std::io::Write as _;

    use rusqlite::Connection;

    use super::*;

    fn ends_early(wal: &[u8]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(wal).unwrap();
        Wal::of(&file).unwrap().is_some_and(|wal| wal.ends_early().unwrap())
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
        let ends: Vec<_> = frames(wal).filter(|&at| word(&wal[at..], 4) != 0).collect();
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
        let wal = || fs::read(path.with_file_name("db-wal")).unwrap();
        let is_damaged = |mut bytes: Vec<u8>| {
            bytes[..HEADER].fill(0xff);
            let torn = dir.path().join("torn-wal");
            fs::write(&torn, bytes).unwrap();
            is_damaged(&torn, &path).unwrap()
        };
        let before = wal();
        assert!(is_damaged(before.clone()), "the database has none of it");
        let moved = "PRAGMA wal_checkpoint(FULL)";
        connection.query_row(moved, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(!is_damaged(wal()), "the database has all of it");
        // The WAL has started again: what it holds now is not in the database.
        (0..2).for_each(|_| assert_eq!(add(), 1));
        assert!(is_damaged(wal()), "the database lacks the new turn");
        let (after, mut begun) = (wal(), before);
        let end = frames(&after).find(|&at| word(&after[at..], 4) != 0).unwrap();
        assert!(end > HEADER && end < begun.len(), "its first transaction has several frames");
        begun[..end].copy_from_slice(&after[..end]);
        assert!(!is_damaged(begun), "of the new turn no transaction had ended");
    }
}
