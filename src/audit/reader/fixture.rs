//! A ring and its reader for tests.

use tempfile::TempDir;

use super::Reader;
use crate::audit::class::Class;
use crate::audit::entry::{Entry, Seq};
use crate::audit::ring::{Record, Ring, RingOptions};

/// An empty ring for so many entries, in a folder that goes with its test.
pub(super) fn plain(max_entries: u64) -> (TempDir, Ring, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let ring = Ring::open(&RingOptions::plain(folder.path(), max_entries)).unwrap();
    let reader = Reader::new(folder.path(), ring.gate());
    (folder, ring, reader)
}

/// Stores so many entries, of two classes in turn.
pub(super) fn store(ring: &mut Ring, entries: u64) {
    let last = ring.last_seq().unwrap().0;
    let class = |seq| if seq % 2 == 0 { Class::Read } else { Class::Denied };
    let record = |seq| Record::Entry(Seq(seq), Entry::plain(class(seq)), None);
    ring.store(&(last + 1..=last + entries).map(record).collect::<Vec<_>>()).unwrap();
}
