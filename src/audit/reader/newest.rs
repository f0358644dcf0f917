//! The first page from memory.

use super::{Reader, Search};
use crate::audit::entry::ServedEntry;
use crate::audit::ring::View;

impl Reader {
    /// Visits the page of all entries that begins behind `offset`, newest first, without touching the file. None: it has to be read from
    /// there. Never waits.
    pub fn newest(&self, limit: u64, offset: u64, mut visit: impl FnMut(&ServedEntry<'_>)) -> Option<Search> {
        let View { epoch, held, entries } = self.gate.newest().view(offset.checked_add(limit)?)?;
        let newest = entries.first()?.seq;
        let mut unread_end = held.each_ref().map(|held| held.end);
        for entry in &entries {
            unread_end[entry.class.index()] = entry.ordinal;
        }
        entries.iter().skip(usize::try_from(offset).ok()?).for_each(|entry| visit(&entry.served()));
        Some(Search::done(epoch, &held, newest, unread_end))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{plain, store};
    use super::*;
    use crate::audit::filter::Filter;

    /// The newest and the oldest seq of a page from memory.
    fn ends(reader: &Reader, limit: u64, offset: u64) -> Option<(u64, u64)> {
        let mut seqs = Vec::new();
        reader.newest(limit, offset, |entry| seqs.push(entry.seq.0))?;
        Some((*seqs.first()?, *seqs.last()?))
    }

    #[test]
    fn the_newest_entries_are_kept_while_pages_are_read_and_only_as_long_as_it_is_sure_what_the_file_holds() {
        let (_folder, mut ring, reader) = plain(1_000);
        store(&mut ring, 50);
        assert_eq!(ends(&reader, 20, 0), None, "nobody has read a page yet");
        store(&mut ring, 150);
        assert_eq!(ends(&reader, 20, 0), Some((200, 181)));
        assert_eq!(ends(&reader, 20, 80), Some((120, 101)));
        assert_eq!(ends(&reader, 20, 81), None, "no more than the largest page is kept");
        assert_eq!(ends(&reader, 20, u64::MAX), None);
        store(&mut ring, 1);
        assert_eq!(ends(&reader, 1, 0), Some((201, 201)));

        ring.gate().report_damage("a test says so".to_owned());
        assert_eq!(ends(&reader, 1, 0), None, "what a damaged file holds nobody knows");
        store(&mut ring, 3);
        assert_eq!(ends(&reader, 3, 0), Some((204, 202)));
        let (mut whole, is_of) = (0, |search: Option<Search>| search.unwrap().epoch());
        let search = reader.search(&Filter::default(), 100, 0, |_| whole += 1).unwrap();
        assert_eq!((whole, search.epoch()), (3, is_of(reader.newest(3, 0, |_| {}))), "the new ring");

        for _ in 0..64 {
            store(&mut ring, 1);
        }
        assert_eq!(ends(&reader, 1, 0), None, "nobody reads any more");
    }
}
