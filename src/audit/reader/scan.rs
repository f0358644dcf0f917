//! Walks over what a filter lets through, in steps that each look at a bounded number of rows.
//!
//! A step is one read transaction. Between two steps a walk holds nothing: what is evicted meanwhile is told, and where another ring has
//! taken the ring's place the walk ends with an error.

use std::ops::ControlFlow;

use rusqlite::Transaction;
use uuid::Uuid;

use super::cursor::{Known, Past};
use super::memory::Memory;
use super::merge::{Order, Span, count, each, merge};
use super::predicate::{Predicate, takes};
use super::{Held, ReadError, Reader, epoch, held};
use crate::audit::class::Class;
use crate::audit::entry::{Seq, ServedEntry};
use crate::audit::filter::Filter;
use crate::audit::paging;

/// Rows that a step evaluates a predicate on: a few milliseconds, in which the WAL can't start again.
const STEP_ROWS: u64 = 8_192;

/// A walk, and how far it has come.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The ring whose ordinals these are.
    epoch: [u8; 16],
    predicate: Option<Predicate>,
    order: Order,
    pub(super) left: Span,
}

/// What a step of a walk gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStep {
    /// How many entries were visited.
    pub entries: u64,
    /// How many entries of each class were evicted before this step could look at them.
    pub evicted: [u64; 3],
}

/// A page, and how far the count of all that it is a part of has come.
#[derive(Clone, Debug)]
pub struct Search {
    scan: Scan,
    skip: u64,
    limit: u64,
    /// The seq of the newest entry that the ring held at the beginning; that before its first one where it held none.
    pub as_of: Seq,
    /// What the ring had evicted then.
    evicted: [u64; 3],
    /// The ordinals of each class from which on the page and all before it have everything.
    unread_end: [u64; 3],
    /// Entries found so far that the filter lets through; all of them when the search is done.
    pub total: u64,
}

impl Scan {
    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.left.iter().all(std::ops::Range::is_empty)
    }

    /// The ring that is read.
    pub const fn epoch(&self) -> Uuid {
        Uuid::from_bytes(self.epoch)
    }

    /// Whether entries of the classes that are read can be passed over.
    pub const fn is_filtered(&self) -> bool {
        self.predicate.is_some()
    }

    /// The ordinals of each class that nothing is left of up to here.
    pub fn done_up_to(&self) -> [u64; 3] {
        self.left.each_ref().map(|left| left.start.saturating_sub(1))
    }

    /// The ordinals of each class that nothing is left of from here on.
    pub fn done_from(&self) -> [u64; 3] {
        self.left.each_ref().map(|left| left.end)
    }

    /// A walk over those of the entries held that the filter lets through.
    pub(super) fn of(
        transaction: &Transaction<'_>,
        held: [Held; 3],
        filter: &Filter,
        order: Order,
    ) -> rusqlite::Result<Self> {
        let left = Class::ALL.map(|class| {
            let all = held[class.index()].range();
            if takes(filter, class) { all } else { all.start..all.start }
        });
        Ok(Self { epoch: epoch(transaction)?, predicate: Predicate::of(filter), order, left })
    }

    /// Takes off what is not there any more, and tells how much that is. None: this is another ring.
    fn catch_up(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<[u64; 3]>> {
        if epoch(transaction)? != self.epoch {
            return Ok(None);
        }
        let held = held(transaction)?.map(Held::range);
        let mut evicted = [0; 3];
        for (class, left) in self.left.iter_mut().enumerate() {
            let reached = held[class].start.clamp(left.start, left.end.max(left.start));
            evicted[class] = reached - left.start;
            left.start = reached;
        }
        Ok(Some(evicted))
    }

    /// The part of what is left that a step looks at.
    fn piece(&self, transaction: &Transaction<'_>, memory: &mut Memory) -> rusqlite::Result<Span> {
        let lengths = lengths(&self.left);
        let total: u64 = lengths.iter().sum();
        if self.predicate.is_none() || total <= STEP_ROWS {
            return Ok(self.left.clone());
        }
        let newer = if self.order == Order::NewestFirst { STEP_ROWS } else { total - STEP_ROWS };
        let cuts = cut(transaction, memory, &self.left, newer)?;
        Ok([0, 1, 2].map(|class: usize| match self.order {
            Order::NewestFirst => cuts[class]..self.left[class].end,
            Order::OldestFirst => self.left[class].start..cuts[class],
        }))
    }

    /// Goes on behind what is left of a piece.
    fn advance(&mut self, piece: &Span) {
        for (left, piece) in self.left.iter_mut().zip(piece) {
            match self.order {
                Order::NewestFirst => left.end = piece.end,
                Order::OldestFirst => left.start = piece.start,
            }
        }
    }

    fn step(
        &mut self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        limit: u64,
        visit: &mut dyn FnMut(&ServedEntry<'_>) -> ControlFlow<()>,
    ) -> rusqlite::Result<Option<ScanStep>> {
        let Some(evicted) = self.catch_up(transaction)? else { return Ok(None) };
        let mut piece = self.piece(transaction, memory)?;
        let predicate = self.predicate.as_ref();
        let entries = merge(transaction, memory, &mut piece, self.order, predicate, limit, visit)?;
        self.advance(&piece);
        Ok(Some(ScanStep { entries, evicted }))
    }
}

impl Search {
    /// A search of all entries whose page is visited: `held` are the ordinals of each class.
    pub(super) fn done(epoch: [u8; 16], held: &Span, newest: Seq, unread_end: [u64; 3]) -> Self {
        let left = held.each_ref().map(|held| held.start..held.start);
        let scan = Scan { epoch, predicate: None, order: Order::NewestFirst, left };
        let (evicted, total) = (scan.done_up_to(), lengths(held).iter().sum());
        Self { scan, skip: 0, limit: 0, as_of: newest, evicted, unread_end, total }
    }

    /// Whether the page is visited and all is counted.
    pub fn is_done(&self) -> bool {
        self.scan.is_done()
    }

    /// The ring that is read.
    pub const fn epoch(&self) -> Uuid {
        self.scan.epoch()
    }

    /// What whoever reads on behind the page has accounted for.
    pub const fn known(&self) -> Known {
        Known { up_to: self.evicted, from: Some(self.unread_end) }
    }

    /// Whether the ring held older entries than those of the page.
    pub fn has_older(&self) -> bool {
        (0..3).any(|class| self.unread_end[class] > self.evicted[class] + 1)
    }

    /// Looks at the next piece of what is left. To be called where it is known that all of that is there: at the beginning, and behind
    /// [`Scan::catch_up`] in the same transaction.
    fn look_on(
        &mut self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        visit: &mut dyn FnMut(&ServedEntry<'_>),
    ) -> rusqlite::Result<()> {
        let mut piece = self.scan.piece(transaction, memory)?;
        let found = match &self.scan.predicate {
            Some(predicate) => count(transaction, memory, &piece, predicate)?,
            None => lengths(&piece).iter().sum(),
        };
        let skipped = self.skip.min(found);
        if self.limit > 0 && found > skipped {
            self.page(transaction, memory, &piece, skipped, visit)?;
        }
        self.skip -= skipped;
        self.total += found;
        for range in &mut piece {
            range.end = range.start;
        }
        self.scan.advance(&piece);
        Ok(())
    }

    /// Visits what of a piece is part of the page, after so many that are not.
    fn page(
        &mut self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        piece: &Span,
        skipped: u64,
        visit: &mut dyn FnMut(&ServedEntry<'_>),
    ) -> rusqlite::Result<()> {
        let (mut piece, order, predicate) = (piece.clone(), self.scan.order, self.scan.predicate.as_ref());
        if predicate.is_none() {
            let cuts = cut(transaction, memory, &piece, skipped)?;
            piece.iter_mut().zip(cuts).for_each(|(piece, cut)| piece.end = cut);
        } else {
            merge(transaction, memory, &mut piece, order, predicate, skipped, &mut each(|_| {}))?;
        }
        self.limit -= merge(transaction, memory, &mut piece, order, predicate, self.limit, &mut each(visit))?;
        self.unread_end = piece.map(|range| range.end);
        Ok(())
    }
}

impl Reader {
    /// Begins a walk over what the ring holds now.
    pub fn scan(&self, filter: &Filter, order: Order) -> Result<Scan, ReadError> {
        self.step(|transaction, _| Scan::of(transaction, held(transaction)?, filter, order))
    }

    /// Visits the next entries of a walk, `limit` at most. Fewer do not mean that it is done.
    pub fn scan_step(
        &self,
        scan: &mut Scan,
        limit: u64,
        visit: impl FnMut(&ServedEntry<'_>),
    ) -> Result<ScanStep, ReadError> {
        self.scan_until(scan, limit, each(visit))
    }

    /// The same, up to where `visit` stops: behind the entry that it stopped at.
    pub fn scan_until(
        &self,
        scan: &mut Scan,
        limit: u64,
        mut visit: impl FnMut(&ServedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStep, ReadError> {
        let step = self.step(|transaction, memory| scan.step(transaction, memory, limit, &mut visit))?;
        step.ok_or_else(|| self.moved())
    }

    /// Visits what it can of a page, newest first; what is left to do is for [`Self::search_step`].
    pub fn search(
        &self,
        filter: &Filter,
        limit: u64,
        offset: u64,
        mut visit: impl FnMut(&ServedEntry<'_>),
    ) -> Result<Search, ReadError> {
        self.step(|transaction, memory| {
            let held = held(transaction)?;
            let scan = Scan::of(transaction, held, filter, Order::NewestFirst)?;
            let as_of = Past::of(transaction, memory, held)?.newest;
            let evicted = scan.done_up_to();
            let mut search = Search { scan, skip: offset, limit, as_of, evicted, unread_end: [0; 3], total: 0 };
            search.look_on(transaction, memory, &mut visit)?;
            Ok(search)
        })
    }

    /// Goes on with a search.
    pub fn search_step(&self, search: &mut Search, mut visit: impl FnMut(&ServedEntry<'_>)) -> Result<(), ReadError> {
        let step = self.step(|transaction, memory| {
            let Some(_) = search.scan.catch_up(transaction)? else { return Ok(None) };
            search.look_on(transaction, memory, &mut visit).map(Some)
        })?;
        step.ok_or_else(|| self.moved())
    }

    fn moved(&self) -> ReadError {
        ReadError::Moved { path: self.path.clone() }
    }
}

fn lengths(span: &Span) -> [u64; 3] {
    span.each_ref().map(|range| range.end.saturating_sub(range.start))
}

/// Where each class is cut so that the newest `count` entries of a span are above.
fn cut(transaction: &Transaction<'_>, memory: &mut Memory, span: &Span, count: u64) -> rusqlite::Result<[u64; 3]> {
    let last = span.each_ref().map(|range| range.end.saturating_sub(1));
    let above = paging::newest(count, last, lengths(span), |class, ordinal| {
        memory.seq_at(transaction, Class::ALL[class], ordinal)
    })?;
    Ok([0, 1, 2].map(|class: usize| span[class].end - above[class]))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{plain, store};
    use super::*;

    #[test]
    fn a_search_goes_on_with_what_is_left_of_the_ring_in_which_it_began() {
        let (_folder, mut ring, reader) = plain(20_000);
        // In steps, because nothing meets it.
        let filter = Filter { min_duration_ms: Some(1), ..Filter::default() };
        let begin = || {
            let search = reader.search(&filter, 20, 0, |_| {}).unwrap();
            assert!(!search.is_done(), "there is more than a step looks at");
            search
        };

        (0..10).for_each(|_| store(&mut ring, 2_000));
        let mut search = begin();
        // What the next step would look at.
        (0..3).for_each(|_| store(&mut ring, 2_000));
        while !search.is_done() {
            reader.search_step(&mut search, |_| {}).unwrap();
        }

        let mut search = begin();
        ring.gate().report_damage("a test says so".to_owned());
        store(&mut ring, 1);
        let on_another_ring = reader.search_step(&mut search, |_| {});
        assert!(matches!(on_another_ring, Err(ReadError::Moved { .. })), "{on_another_ring:?}");
    }
}
