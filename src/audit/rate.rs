//! How many entries of each class have come lately: what the ring will hold for how long follows from it.
//!
//! Time is that since the boot, so a wall clock that jumps changes nothing.

use std::collections::VecDeque;

use super::class::Class;

/// What is counted together.
const BUCKET_US: i64 = 60_000_000;

/// How many of those are remembered: an hour.
const BUCKETS: u8 = 60;

/// Entries of the last hour.
#[derive(Clone, Debug)]
pub struct Rates {
    begun_us: i64,
    /// Each with the minute since the boot in which they came; the newest last.
    buckets: VecDeque<(i64, [u64; 3])>,
}

impl Rates {
    /// Nothing has come yet; times are microseconds since the boot.
    pub(super) fn since(now_us: i64) -> Self {
        Self { begun_us: now_us, buckets: VecDeque::new() }
    }

    /// So many entries of each class have come.
    pub(super) fn add(&mut self, entries: [u64; 3], now_us: i64) {
        let minute = now_us / BUCKET_US;
        if self.buckets.back().is_none_or(|(newest, _)| *newest != minute) {
            self.buckets.push_back((minute, [0; 3]));
        }
        while self.buckets.len() > usize::from(BUCKETS) {
            self.buckets.pop_front();
        }
        if let Some((_, counts)) = self.buckets.back_mut() {
            counts.iter_mut().zip(entries).for_each(|(count, more)| *count += more);
        }
    }

    /// Entries of a class in an hour, at the rate of the last hour, or since the beginning where that is less. None in the first minute.
    pub fn per_hour(&self, class: Class, now_us: i64) -> Option<u64> {
        let hour_us = BUCKET_US * i64::from(BUCKETS);
        let oldest = (now_us / BUCKET_US) - i64::from(BUCKETS) + 1;
        // From the beginning of the oldest minute that counts.
        let span_us = now_us - self.begun_us.max(oldest * BUCKET_US);
        if now_us - self.begun_us < BUCKET_US {
            return None;
        }
        let recent = self.buckets.iter().filter(|(minute, _)| *minute >= oldest);
        let entries: u64 = recent.map(|(_, counts)| counts[class.index()]).sum();
        let scaled = u128::from(entries) * u128::try_from(hour_us).ok()? / u128::try_from(span_us).ok()?;
        u64::try_from(scaled).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    #[test]
    fn the_rate_is_that_of_the_last_hour() {
        let mut rates = Rates::since(5 * SECOND_US);
        let per_hour = |rates: &Rates, second: i64| rates.per_hour(Class::Read, second * SECOND_US);
        for second in 5..125 {
            rates.add([0, 2, 0], second * SECOND_US);
        }
        assert_eq!(per_hour(&rates, 60), None, "too soon to tell");
        assert_eq!(per_hour(&rates, 125), Some(7_200));
        assert_eq!(rates.per_hour(Class::Change, 125 * SECOND_US), Some(0));
        // What came long ago does not count, however little came since.
        assert_eq!(per_hour(&rates, 4 * 3_600), Some(0));
        rates.add([0, 59, 0], 4 * 3_600 * SECOND_US);
        let later = per_hour(&rates, 4 * 3_600 + 30).unwrap();
        assert!((59..=61).contains(&later), "{later}");
        for minute in 300..1_000 {
            rates.add([1, 1, 1], minute * BUCKET_US);
        }
        assert!(rates.buckets.len() <= usize::from(BUCKETS));
    }
}
