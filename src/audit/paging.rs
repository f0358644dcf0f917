//! Finding the k-th newest entry over the classes without walking to it.
//!
//! Each class is a sequence of seqs that falls from newest to oldest, and any of them can be looked up by its place. Knows no
//! SQLite: the lookup is a closure.

/// How many of the newest `count` entries are in each class.
///
/// `last` has the ordinal of each class's newest entry, `lengths` how many entries each class has, and `seq(class, ordinal)` gives
/// the seq of an entry. `count` is at most the sum of the lengths. Costs some twenty lookups a class, whatever `count` is.
///
/// t0: the answer lies in the windows `low..=high` of each class. t1: look at a middle of each window. t2: if there are
/// `count` entries or more before the middles, the oldest of the middles is not among the newest `count`, nor is what follows it in its
/// class; otherwise the newest of the middles is, and so is what stands before it. t3: one window has shrunk; again.
pub(super) fn newest<E>(
    count: u64,
    last: [u64; 3],
    lengths: [u64; 3],
    mut seq: impl FnMut(usize, u64) -> Result<u64, E>,
) -> Result<[u64; 3], E> {
    let total: u64 = lengths.iter().sum();
    let mut high = lengths.map(|length| length.min(count));
    let mut low = lengths.map(|length| (count + length).saturating_sub(total));
    let mut middles: [Option<(u64, u64)>; 3] = [None; 3];
    loop {
        let missing = count - low.iter().sum::<u64>();
        if missing == 0 {
            return Ok(low);
        }
        let mut before = 0;
        for class in 0..3 {
            if low[class] == high[class] {
                middles[class] = None;
                continue;
            }
            let ordinal = round_between(last[class] - high[class], last[class] - low[class]);
            let middle = last[class] - ordinal;
            before += middle - low[class];
            if middles[class].is_none_or(|(place, _)| place != middle) {
                middles[class] = Some((middle, seq(class, ordinal)?));
            }
        }
        let open =
            || middles.iter().enumerate().filter_map(|(class, middle)| middle.map(|(place, seq)| (seq, class, place)));
        if before >= missing {
            let Some((_, class, place)) = open().min() else { return Ok(low) };
            high[class] = place;
        } else {
            let Some((_, class, place)) = open().max() else { return Ok(low) };
            low[class] = place + 1;
        }
    }
}

/// The roundest binary number above `below` and up to `end`.
///
/// A window moves on with every new entry; its middle would be another one each time. Round ordinals stay the same, so that
/// whoever remembers their seqs seldom has to look one up.
const fn round_between(below: u64, end: u64) -> u64 {
    let differing_bit = u64::BITS - 1 - (below ^ end).leading_zeros();
    end >> differing_bit << differing_bit
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Deals the seqs 1..=n to the classes; each class newest first.
    fn deal(classes: &[usize]) -> [Vec<u64>; 3] {
        let mut dealt: [Vec<u64>; 3] = Default::default();
        for (index, &class) in classes.iter().enumerate().rev() {
            dealt[class].push(index as u64 + 1);
        }
        dealt
    }

    /// Splits what was dealt, with ordinals from `first` on; tells how many lookups that took.
    fn split(dealt: &[Vec<u64>; 3], first: u64, count: u64) -> ([u64; 3], usize) {
        let lengths = [0, 1, 2].map(|class: usize| dealt[class].len() as u64);
        let last = lengths.map(|length| first + length);
        let mut lookups = 0;
        let split = newest(count, last, lengths, |class, ordinal| {
            lookups += 1;
            Ok::<_, Infallible>(dealt[class][usize::try_from(last[class] - ordinal).unwrap()])
        });
        (split.unwrap(), lookups)
    }

    proptest! {
        #[test]
        fn any_depth_is_split_as_sorting_everything_would(
            classes in prop::collection::vec(0_usize..3, 0..300), part in 0_u64..=100, first in 0_u64..1 << 40,
        ) {
            let dealt = deal(&classes);
            let count = classes.len() as u64 * part / 100;
            let threshold = classes.len() as u64 - count;
            let expected = [0, 1, 2].map(|c: usize| dealt[c].iter().filter(|&&seq| seq > threshold).count() as u64);
            prop_assert_eq!(split(&dealt, first, count).0, expected);
        }
    }

    #[test]
    fn a_million_entries_cost_some_sixty_lookups() {
        let class_of = |n: usize| [0, 1, 1, 1, 1, 1, 2, 1][n.wrapping_mul(2_654_435_761) >> 7 & 7];
        let dealt = deal(&(0..1_000_000).map(class_of).collect::<Vec<_>>());
        for count in [0, 1, 20, 500_000, 999_980, 1_000_000] {
            let (_, lookups) = split(&dealt, 12_345, count);
            assert!(lookups <= 75, "{count}: {lookups}");
        }
    }
}
