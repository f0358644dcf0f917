//! Reading on from where a reader was: what is there now, and what was lost meanwhile.
//!
//! A class loses its oldest entries, whatever the others hold. So how many entries of each class a reader has accounted for is part of
//! where he is: from that the loss is known exactly. From a seq alone it is known as far as seqs have no gaps.

use rusqlite::Transaction;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::memory::Memory;
use super::merge::Order;
use super::rows::place_of;
use super::scan::Scan;
use super::{Held, ReadError, Reader, held};
use crate::audit::class::Class;
use crate::audit::entry::Seq;
use crate::audit::filter::Filter;
use crate::decimal;

/// Where a reader is.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// The ring that it is of; none: whichever is there.
    pub epoch: Option<Uuid>,
    /// Only entries with a higher seq.
    pub after: Option<Seq>,
    /// Only entries with a lower seq.
    pub before: Option<Seq>,
    /// What the reader has accounted for.
    pub known: Option<Known>,
}

/// Which ordinals of each class a reader has accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Those up to here: read or told to be lost, or gone before the walk began.
    pub up_to: [u64; 3],
    /// Those from here on, in a walk from the newest to the oldest.
    pub from: Option<[u64; 3]>,
}

/// A walk that has begun at a cursor.
#[derive(Debug)]
pub struct Walk {
    /// What there is to read.
    pub scan: Scan,
    /// The seq of the newest entry that the ring holds; that before its first one where it holds none.
    pub newest: Seq,
    /// What lies behind this seq is read: that of the cursor, or where the cursor is of another ring, the one before this ring's first.
    pub begin: Seq,
    /// How many entries of each class had aged out.
    pub evicted: [u64; 3],
    /// What is not there any more.
    pub gap: Option<Gap>,
}

/// Entries that a reader can't have any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// They have this seq at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Seq>,
    /// They have this seq at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Seq>,
    /// How many they are, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many of each class, as far as that is known.
    pub classes: ClassCounts,
}

/// Why entries are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They aged out of the ring.
    Evicted,
    /// The ring is another one; what the cursor was in is damaged or gone.
    NewRing,
}

/// A number for each class; left out where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClassCounts {
    /// Of class `change`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// Of class `read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// Of class `denied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<u64>,
}

impl From<[Option<u64>; 3]> for ClassCounts {
    fn from([change, read, denied]: [Option<u64>; 3]) -> Self {
        Self { change, read, denied }
    }
}

impl Gap {
    /// A gap with what was evicted of it, or of nothing before, since it was looked at.
    pub fn widened(gap: Option<Self>, evicted: [u64; 3]) -> Option<Self> {
        if evicted == [0; 3] {
            return gap;
        }
        let nothing =
            || Self { reason: GapReason::Evicted, from: None, to: None, count: Some(0), classes: [Some(0); 3].into() };
        let mut gap = gap.unwrap_or_else(nothing);
        gap.to = None;
        gap.count = gap.count.map(|count| count + evicted.iter().sum::<u64>());
        let ClassCounts { change, read, denied } = &mut gap.classes;
        for (count, evicted) in [change, read, denied].into_iter().zip(evicted) {
            *count = count.map(|count| count + evicted);
        }
        Some(gap)
    }
}

impl Known {
    /// As a text: three numbers, or six.
    pub fn to_text(self) -> String {
        let numbers = self.up_to.iter().chain(self.from.iter().flatten());
        numbers.map(u64::to_string).collect::<Vec<_>>().join(".")
    }

    /// The same the other way.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| decimal::parse::<u64>(part).filter(|_| part.len() <= 18);
        let numbers = text.split('.').map(number).collect::<Option<Vec<_>>>()?;
        let (up_to, from) = numbers.split_at_checked(3)?;
        let from = if from.is_empty() { None } else { Some(from.try_into().ok()?) };
        Some(Self { up_to: up_to.try_into().ok()?, from })
    }
}

/// What a ring says of its past.
pub(super) struct Past {
    held: [Held; 3],
    /// The seq before the ring's first.
    base: Seq,
    /// That of the newest entry; the base where it holds none.
    pub(super) newest: Seq,
}

impl Past {
    pub(super) fn of(transaction: &Transaction<'_>, memory: &mut Memory, held: [Held; 3]) -> rusqlite::Result<Self> {
        let base = transaction.prepare_cached("SELECT seq_base FROM ring")?.query_row([], |row| row.get(0)).map(Seq)?;
        let mut newest = base;
        for class in Class::ALL {
            let held = held[class.index()];
            if held.entries() > 0 {
                newest = newest.max(Seq(memory.seq_at(transaction, class, held.last)?));
            }
        }
        Ok(Self { held, base, newest })
    }

    /// How many entries of a class aged out.
    const fn evicted(&self, class: usize) -> u64 {
        self.held[class].first - 1
    }

    /// Seqs of evicted entries of a class are below this.
    fn evicted_before(
        &self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        class: Class,
    ) -> rusqlite::Result<u64> {
        let held = self.held[class.index()];
        if held.entries() == 0 {
            return Ok(self.newest.0 + 1);
        }
        memory.seq_at(transaction, class, held.first)
    }

    /// How many entries held have a seq in that range.
    fn entries_between(
        &self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        after: u64,
        to: u64,
    ) -> rusqlite::Result<u64> {
        let mut entries = 0;
        for class in Class::ALL {
            let range = self.held[class.index()].range();
            let mut place = |seq| place_of(transaction, memory, class, Seq(seq), range.clone());
            entries += place(to + 1)?.saturating_sub(place(after + 1)?);
        }
        Ok(entries)
    }
}

impl Scan {
    /// Keeps to what lies between the cursor's seqs.
    fn restrict(
        &mut self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        cursor: &Cursor,
    ) -> rusqlite::Result<()> {
        for (class, left) in Class::ALL.into_iter().zip(&mut self.left) {
            if let Some(Seq(after)) = cursor.after {
                left.start = place_of(transaction, memory, class, Seq(after + 1), left.clone())?;
            }
            if let Some(before) = cursor.before {
                left.end = place_of(transaction, memory, class, before, left.clone())?;
            }
        }
        Ok(())
    }
}

impl Walk {
    /// Whether it is of no use to wait for more: something is missing, or the walk ends before what is to come.
    pub fn is_settled(&self, cursor: &Cursor) -> bool {
        self.gap.is_some() || cursor.before.is_some_and(|Seq(before)| before <= self.newest.0 + 1)
    }
}

impl Reader {
    /// Begins a walk at a cursor.
    pub fn walk(&self, filter: &Filter, cursor: &Cursor, order: Order) -> Result<Walk, ReadError> {
        self.step(|transaction, memory| {
            let held = held(transaction)?;
            let past = Past::of(transaction, memory, held)?;
            let mut scan = Scan::of(transaction, held, filter, order)?;
            // Nothing of this ring has such a seq.
            let is_beyond = cursor.after > Some(past.newest);
            let is_of_this_ring = !is_beyond && cursor.epoch.is_none_or(|epoch| epoch == scan.epoch());
            if is_of_this_ring {
                scan.restrict(transaction, memory, cursor)?;
            } else if order == Order::NewestFirst {
                // What the walk was in is gone; nothing of this ring belongs to it.
                scan.left.iter_mut().for_each(|left| left.end = left.start);
            }
            let wanted = Class::ALL.map(|class| filter.class.is_none_or(|only| only == class));
            let gap = match (order, cursor.after) {
                _ if !is_of_this_ring => Some(new_ring(&past, cursor)),
                (Order::OldestFirst, Some(after)) if after < past.base => Some(new_ring(&past, cursor)),
                (Order::OldestFirst, Some(after)) => {
                    lost_after(transaction, memory, &past, after, cursor.known, wanted)?
                }
                _ => lost_below(&past, &scan, cursor.known, wanted),
            };
            let begin = cursor.after.filter(|_| is_of_this_ring).unwrap_or(past.base).max(past.base);
            let evicted = [0, 1, 2].map(|class| past.evicted(class));
            Ok(Walk { scan, newest: past.newest, begin, evicted, gap })
        })
    }
}

/// What the cursor was in is not this ring.
fn new_ring(past: &Past, cursor: &Cursor) -> Gap {
    Gap {
        reason: GapReason::NewRing,
        from: cursor.after.map(|Seq(after)| Seq(after + 1)),
        to: cursor.after.filter(|&after| after < past.base).map(|_| past.base),
        count: None,
        classes: ClassCounts::default(),
    }
}

/// What a walk from the oldest to the newest has lost behind `after`.
fn lost_after(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    past: &Past,
    after: Seq,
    known: Option<Known>,
    wanted: [bool; 3],
) -> rusqlite::Result<Option<Gap>> {
    let (mut lost, mut to) = ([Some(0); 3], after.0);
    for class in Class::ALL.into_iter().filter(|class| wanted[class.index()]) {
        let index = class.index();
        let before = past.evicted_before(transaction, memory, class)?;
        // What went is older than what is held.
        let is_sound = past.evicted(index) == 0 || before <= after.0 + 1;
        let count = known.map(|known| past.evicted(index).saturating_sub(known.up_to[index]));
        lost[index] = if is_sound { Some(0) } else { count };
        if lost[index] != Some(0) {
            to = to.max(before - 1);
        }
    }
    if lost == [Some(0); 3] {
        return Ok(None);
    }
    let mut count = lost.into_iter().sum::<Option<u64>>();
    if count.is_none() && wanted == [true; 3] {
        // Each seq is that of an entry: those that are not held are lost.
        let missing = (to - after.0).saturating_sub(past.entries_between(transaction, memory, after.0, to)?);
        let unknown: Vec<_> = (0..3).filter(|&class| lost[class].is_none()).collect();
        if let [class] = unknown[..] {
            lost[class] = Some(missing.saturating_sub(lost.iter().flatten().sum()));
        }
        count = Some(missing);
    }
    let nothing = count == Some(0);
    let gap = Gap {
        reason: GapReason::Evicted,
        from: Some(Seq(after.0 + 1)),
        to: Some(Seq(to)),
        count,
        classes: lost.into(),
    };
    Ok((!nothing).then_some(gap))
}

/// What a walk from the newest to the oldest has lost before it came there.
fn lost_below(past: &Past, scan: &Scan, known: Option<Known>, wanted: [bool; 3]) -> Option<Gap> {
    let known = known?;
    let mut lost = [Some(0); 3];
    for class in (0..3).filter(|&class| wanted[class]) {
        let left = &scan.left[class];
        let unread_end = match known.from {
            Some(from) => Some(from[class]),
            None => (!left.is_empty()).then_some(left.end),
        };
        let gone = past.evicted(class).saturating_sub(known.up_to[class]);
        // Of what went since, that which was not read before.
        lost[class] = match unread_end {
            Some(end) => Some(past.evicted(class).min(end.saturating_sub(1)).saturating_sub(known.up_to[class])),
            None if gone == 0 => Some(0),
            None => None,
        };
    }
    if lost == [Some(0); 3] {
        return None;
    }
    let count = lost.into_iter().sum();
    Some(Gap { reason: GapReason::Evicted, from: None, to: None, count, classes: lost.into() })
}
