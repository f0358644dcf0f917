//! Whom a commit waits for: who was answered a moment ago soon calls again.
//!
//! Where many waited together for the last commit, about as many are to come, and a moment's wait puts half of them into one commit
//! instead of several: each costs processor time and flash whatever it holds. The other half is served meanwhile. Where few wait,
//! nobody is kept waiting.

use std::time::Duration;

/// So long is waited for others at most.
pub(super) const LINGER: Duration = Duration::from_millis(2);

/// So many are many.
const MANY: usize = 8;

/// How many are expected to wait for the next commit.
#[derive(Debug, Default)]
pub(super) struct Company {
    expected: usize,
}

impl Company {
    /// So many waited when a commit returned, for it or for the next one.
    pub(super) const fn met(&mut self, waited: usize) {
        self.expected = waited;
    }

    /// Whether others are to be waited for where so many wait. Half of those expected is enough: waiting for more leaves the processor idle.
    pub(super) const fn is_expected(&self, waiting: usize) -> bool {
        waiting > 0 && self.expected >= MANY && waiting < self.expected / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_those_who_waited_before_are_waited_for_where_they_were_many() {
        let mut company = Company::default();
        assert!((0..100).all(|waiting| !company.is_expected(waiting)), "nobody has waited yet");
        company.met(MANY - 1);
        assert!((0..100).all(|waiting| !company.is_expected(waiting)), "they were few");
        company.met(64);
        assert!((1..32).all(|waiting| company.is_expected(waiting)));
        assert!((32..100).all(|waiting| !company.is_expected(waiting)), "half of them are there");
        assert!(!company.is_expected(0), "nobody is kept waiting, and nothing is to be delayed");
    }
}
