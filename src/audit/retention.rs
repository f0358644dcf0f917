//! Which entries stay: the ring's accounts, and whom it evicts.
//!
//! Pure arithmetic over *extents*, consecutive entries of one class that are evicted together. Knows no SQLite; the
//! ring carries out what is decided here and stores the extents, so that opening a ring never counts its entries.
//!
//! The rule: a class that has reached its guarantee makes room by its own oldest extent. A class below it takes from the class
//! that exceeds its own guarantee the most, and never so much that this one falls below. So a flood evicts only its own class.

use std::collections::VecDeque;
use std::ops::Range;

use super::budget::ENTRY_CHARGE_MAX;
use super::class::Class;

/// How many extents a full ring of one class has, at least: the grain of eviction.
const EXTENTS: u64 = 128;

/// The most that the guarantees may add up to, in percent of the ring. The rest is where classes grow and where a class at its
/// guarantee keeps one extent of slack, so that evicting a whole extent never takes it below.
pub const GUARANTEES_MAX_PERCENT: u64 = 90;

/// What the ring may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all.
    pub max_entries: u64,
    /// The sum of all charges, in bytes.
    pub max_charge_bytes: u64,
    /// The most that the charges of one extent may add up to.
    pub max_extent_bytes: u64,
    /// The share that belongs to each class, in percent of entries and of bytes.
    pub guarantee_percent: [u64; 3],
}

impl Limits {
    fn extent_entries(&self) -> u64 {
        (self.max_entries / EXTENTS).max(1)
    }

    fn extent_bytes(&self) -> u64 {
        (self.max_charge_bytes / EXTENTS).min(self.max_extent_bytes).max(1)
    }
}

/// Consecutive entries of one class that are evicted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Ordinal of the oldest entry.
    pub first_ordinal: u64,
    /// How many entries.
    pub entries: u64,
    /// The sum of their charges.
    pub charge_bytes: u64,
}

impl Extent {
    /// The ordinal after the newest entry.
    pub const fn end_ordinal(&self) -> u64 {
        self.first_ordinal + self.entries
    }

    /// The oldest `entries` of it and the rest, each with its part of the charge.
    fn split(self, entries: u64) -> (Self, Option<Self>) {
        if self.entries <= entries {
            return (self, None);
        }
        let charge_bytes = self.charge_bytes / self.entries * entries;
        let rest = Self {
            first_ordinal: self.first_ordinal + entries,
            entries: self.entries - entries,
            charge_bytes: self.charge_bytes - charge_bytes,
        };
        (Self { entries, charge_bytes, ..self }, Some(rest))
    }
}

/// The extents of one class, oldest first; the last one still grows.
#[derive(Clone, Debug)]
struct ClassAccount {
    closed: VecDeque<Extent>,
    open: Extent,
    entries: u64,
    charge_bytes: u64,
}

impl ClassAccount {
    fn new(closed: Vec<Extent>, open: Extent) -> Self {
        let sum = |part: fn(&Extent) -> u64| closed.iter().map(part).sum::<u64>() + part(&open);
        let (entries, charge_bytes) = (sum(|extent| extent.entries), sum(|extent| extent.charge_bytes));
        Self { closed: closed.into(), open, entries, charge_bytes }
    }

    fn oldest(&self) -> &Extent {
        self.closed.front().unwrap_or(&self.open)
    }
}

/// Parts per million of the ring: entries and bytes on one scale, the scarcer of both counts.
type Share = u64;
const WHOLE: Share = 1_000_000;

/// The accounts of the whole ring.
#[derive(Clone, Debug)]
pub struct Retention {
    limits: Limits,
    classes: [ClassAccount; 3],
}

impl Retention {
    /// The accounts of a ring whose classes hold these extents: closed ones oldest first, and the open one.
    pub fn new(limits: Limits, extents: [(Vec<Extent>, Extent); 3]) -> Self {
        Self { limits, classes: extents.map(|(closed, open)| ClassAccount::new(closed, open)) }
    }

    /// The class whose oldest extent has to go before an entry of `newcomer` with this charge fits. None: it fits.
    pub fn victim(&self, newcomer: Class, charge_bytes: u64) -> Option<Class> {
        let entries = self.entries() + 1;
        let bytes = self.charge_bytes() + charge_bytes;
        if entries <= self.limits.max_entries && bytes <= self.limits.max_charge_bytes {
            return None;
        }
        Some(self.must_give(Some(newcomer)))
    }

    /// The class whose oldest extent has to go if the ring has to shrink, whoever asks.
    pub fn must_give(&self, newcomer: Option<Class>) -> Class {
        if let Some(newcomer) = newcomer.filter(|&class| self.holds_its_guarantee(class)) {
            return newcomer;
        }
        let excess = |class: &Class| self.share(*class).saturating_sub(self.guarantee(*class));
        let richest = Class::ALL.into_iter().filter(|&class| self.holds_its_guarantee(class)).max_by_key(excess);
        richest.or(newcomer).filter(|&class| self.account(class).entries > 0).unwrap_or_else(|| {
            // Only in a ring so small that one extent is a large part of it.
            Class::ALL.into_iter().max_by_key(|&class| self.share(class)).expect("there are three classes")
        })
    }

    /// Takes an entry in: its ordinal, and the extent that it completed.
    pub fn admit(&mut self, class: Class, charge_bytes: u64) -> (u64, Option<Extent>) {
        let (extent_entries, extent_bytes) = (self.limits.extent_entries(), self.limits.extent_bytes());
        let account = &mut self.classes[class.index()];
        let ordinal = account.open.end_ordinal();
        account.open.entries += 1;
        account.open.charge_bytes += charge_bytes;
        account.entries += 1;
        account.charge_bytes += charge_bytes;
        if account.open.entries < extent_entries && account.open.charge_bytes < extent_bytes {
            return (ordinal, None);
        }
        let completed = account.open;
        account.closed.push_back(completed);
        account.open = Extent { first_ordinal: completed.end_ordinal(), ..Extent::default() };
        (ordinal, Some(completed))
    }

    /// Gives up the oldest extent of a class, and tells what is left of it.
    ///
    /// Something is left where the extent dates from larger limits: only as much goes as an extent has now.
    pub(super) fn evict(&mut self, class: Class) -> (Extent, Option<Extent>) {
        let (extent_entries, extent_bytes) = (self.limits.extent_entries(), self.limits.extent_bytes());
        let account = &mut self.classes[class.index()];
        let oldest = account.closed.pop_front().unwrap_or_else(|| {
            let next = Extent { first_ordinal: account.open.end_ordinal(), ..Extent::default() };
            std::mem::replace(&mut account.open, next)
        });
        // The entry that completed it may have gone beyond the bytes, by its own charge: such a one goes as a whole.
        let parts = oldest.charge_bytes.div_ceil(extent_bytes + ENTRY_CHARGE_MAX).max(1);
        let (evicted, left) = oldest.split(extent_entries.min(oldest.entries.div_ceil(parts)));
        if let Some(left) = left {
            account.closed.push_front(left);
        }
        account.entries -= evicted.entries;
        account.charge_bytes -= evicted.charge_bytes;
        (evicted, left)
    }

    /// Entries in all.
    pub fn entries(&self) -> u64 {
        self.classes.iter().map(|account| account.entries).sum()
    }

    /// Entries of one class.
    pub fn entries_of(&self, class: Class) -> u64 {
        self.account(class).entries
    }

    /// The ordinals of the entries of one class.
    pub(super) fn held(&self, class: Class) -> Range<u64> {
        let account = self.account(class);
        account.oldest().first_ordinal..account.open.end_ordinal()
    }

    /// Whether the next entry of a class is the first one of an extent.
    pub(super) fn begins_extent(&self, class: Class) -> bool {
        self.account(class).open.entries == 0
    }

    /// Whether the ring holds more than it may, after its limits were lowered.
    pub fn is_over(&self) -> bool {
        self.entries() > self.limits.max_entries || self.charge_bytes() > self.limits.max_charge_bytes
    }

    fn charge_bytes(&self) -> u64 {
        self.classes.iter().map(|account| account.charge_bytes).sum()
    }

    fn account(&self, class: Class) -> &ClassAccount {
        &self.classes[class.index()]
    }

    fn guarantee(&self, class: Class) -> Share {
        self.limits.guarantee_percent[class.index()] * WHOLE / 100
    }

    /// Whether the class would still hold its guarantee without its oldest extent.
    fn holds_its_guarantee(&self, class: Class) -> bool {
        let account = self.account(class);
        let oldest = account.oldest();
        let left = self.share_of(account.entries - oldest.entries, account.charge_bytes - oldest.charge_bytes);
        oldest.entries > 0 && left >= self.guarantee(class)
    }

    fn share(&self, class: Class) -> Share {
        let account = self.account(class);
        self.share_of(account.entries, account.charge_bytes)
    }

    fn share_of(&self, entries: u64, charge_bytes: u64) -> Share {
        let part = |amount: u64, of: u64| u128::from(amount) * u128::from(WHOLE) / u128::from(of.max(1));
        let share = part(entries, self.limits.max_entries).max(part(charge_bytes, self.limits.max_charge_bytes));
        Share::try_from(share).unwrap_or(Share::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_entries: 12_800,
        max_charge_bytes: 12_800_000,
        max_extent_bytes: 100_000,
        guarantee_percent: [40, 30, 20],
    };

    struct Model {
        retention: Retention,
        held: [u64; 3],
    }

    impl Model {
        fn new() -> Self {
            let empty = || (Vec::new(), Extent { first_ordinal: 1, ..Extent::default() });
            Self { retention: Retention::new(LIMITS, [empty(), empty(), empty()]), held: [0; 3] }
        }

        /// Stores entries of one class and tells which classes lost entries.
        fn flood(&mut self, class: Class, entries: u64, charge_bytes: u64) -> Vec<Class> {
            let mut losers = Vec::new();
            for _ in 0..entries {
                while let Some(victim) = self.retention.victim(class, charge_bytes) {
                    self.held[victim.index()] -= self.retention.evict(victim).0.entries;
                    losers.push(victim);
                }
                self.retention.admit(class, charge_bytes);
                self.held[class.index()] += 1;
                assert!(!self.retention.is_over());
            }
            losers.sort_unstable();
            losers.dedup();
            losers
        }
    }

    #[test]
    fn one_class_may_fill_the_whole_ring() {
        let mut model = Model::new();
        assert_eq!(model.flood(Class::Read, 12_800, 500), []);
        assert_eq!(model.held, [0, 12_800, 0]);
    }

    #[test]
    fn a_class_below_its_guarantee_takes_what_others_hold_beyond_theirs() {
        let mut model = Model::new();
        model.flood(Class::Read, 20_000, 500);
        assert_eq!(model.flood(Class::Change, 5_120, 500), [Class::Read]);
        assert_eq!(model.held[0], 5_120);
    }

    #[test]
    fn a_flood_evicts_only_its_own_class_once_the_others_are_at_their_guarantees() {
        for flooding in [Class::Read, Class::Denied] {
            let mut model = Model::new();
            for class in Class::ALL {
                model.flood(class, LIMITS.max_entries * LIMITS.guarantee_percent[class.index()] / 100, 500);
            }
            let before = model.held;
            model.flood(flooding, 100_000, 900);
            for class in Class::ALL.into_iter().filter(|&class| class != flooding) {
                assert_eq!(model.held[class.index()], before[class.index()], "{flooding:?} evicted {class:?}");
            }
        }
    }

    #[test]
    fn a_flood_of_one_class_never_takes_another_below_its_guarantee() {
        let guarantee = LIMITS.max_entries * 40 / 100;
        let mut model = Model::new();
        model.flood(Class::Change, 12_800, 10);
        model.flood(Class::Denied, 100_000, 10);
        model.flood(Class::Read, 100_000, 10);
        assert!(model.held[0] >= guarantee, "{:?}", model.held);
    }

    #[test]
    fn lowered_limits_evict_no_more_than_they_must() {
        let extent = |n: u64| Extent { first_ordinal: 1 + n * 1_000, entries: 1_000, charge_bytes: 100_000 };
        let held = (0..3).map(extent).collect();
        let open = |first_ordinal| Extent { first_ordinal, ..Extent::default() };
        let limits = Limits { max_entries: 1_280, ..LIMITS };
        let mut retention = Retention::new(limits, [(held, open(3_001)), (Vec::new(), open(1)), (Vec::new(), open(1))]);
        let mut evicted = 0;
        while retention.is_over() {
            evicted += retention.evict(retention.must_give(None)).0.entries;
        }
        assert_eq!((evicted, retention.entries()), (1_720, 1_280));
    }

    #[test]
    fn so_many_bytes_are_evicted_together_and_no_more() {
        let limits = Limits { max_charge_bytes: 1_000_000_000, ..LIMITS };
        let open = |first_ordinal| Extent { first_ordinal, ..Extent::default() };
        // As a ring stored it that could evict more at a time.
        let large = Extent { first_ordinal: 1, entries: 90, charge_bytes: 360_000 };
        let mut retention =
            Retention::new(limits, [(vec![large], open(91)), (Vec::new(), open(1)), (Vec::new(), open(1))]);
        let completed = (0..100).find_map(|_| retention.admit(Class::Change, 4_000).1);
        assert_eq!(completed.map(|extent| extent.charge_bytes), Some(100_000));
        while retention.entries() > 0 {
            let (evicted, _) = retention.evict(Class::Change);
            assert!((1..=100_000).contains(&evicted.charge_bytes), "{evicted:?}");
        }
    }

    #[test]
    fn an_extent_goes_as_a_whole_however_large_the_entry_that_completed_it() {
        let limits = Limits { max_entries: 1_000_000, ..LIMITS };
        let empty = || (Vec::new(), Extent { first_ordinal: 1, ..Extent::default() });
        let mut retention = Retention::new(limits, [empty(), empty(), empty()]);
        assert!((0..499).all(|_| retention.admit(Class::Read, 200).1.is_none()));
        let completed = retention.admit(Class::Read, ENTRY_CHARGE_MAX).1.unwrap();
        assert!(completed.charge_bytes > LIMITS.max_extent_bytes, "{completed:?}");
        assert_eq!(retention.evict(Class::Read), (completed, None));
    }

    #[test]
    fn large_entries_count_by_their_bytes() {
        let mut model = Model::new();
        for class in Class::ALL {
            model.flood(class, 100 * LIMITS.guarantee_percent[class.index()], 1_000);
        }
        let before = model.held;
        assert_eq!(model.flood(Class::Denied, 100_000, 4_096), [Class::Denied]);
        assert_eq!(model.held[..2], before[..2]);
        assert!(model.held[2] < 1_500, "{:?}", model.held);
    }
}
