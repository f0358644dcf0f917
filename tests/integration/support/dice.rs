//! Chance for faults that may come at any moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator of random numbers (splitmix64), other ones in each run of a test.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & u128::from(u64::MAX);
        Self(u64::try_from(seed).unwrap())
    }

    /// The same numbers each time.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = self.below(of.len() as u64);
        &of[usize::try_from(index).unwrap()]
    }

    /// Lets a random time pass, up to `most`: the moment of a fault is nobody's to choose.
    pub(crate) fn wait(&mut self, most: Duration) {
        let most_us = u64::try_from(most.as_micros()).unwrap();
        std::thread::sleep(Duration::from_micros(self.below(most_us + 1)));
    }
}
