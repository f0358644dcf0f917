//! How much of the WAL and of the database is taken, at most.
//!
//! Asking is a PRAGMA, which SQLite prepares anew each time it runs: two questions cost as many instructions as storing an entry. So
//! only the first one is asked. From then on what each batch may add is added, until that might be too much; then SQLite is asked again.

/// Frames of the WAL, or pages of the database. None: it has to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtMost(Option<u64>);

impl AtMost {
    /// It was just asked.
    pub(super) const fn exactly(count: u64) -> Self {
        Self(Some(count))
    }

    /// The most that it may be, where that is `limit` or less. None: ask.
    pub(super) fn within(self, limit: u64) -> Option<u64> {
        self.0.filter(|&at_most| at_most <= limit)
    }

    /// The same after a transaction that may add so many.
    pub(super) fn plus(self, count: u64) -> Self {
        Self(self.0.map(|at_most| at_most.saturating_add(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_where_it_might_be_too_much() {
        assert_eq!(AtMost::default().within(u64::MAX), None, "nobody has asked yet");
        let taken = AtMost::exactly(3).plus(4);
        assert_eq!((taken.within(7), taken.within(6)), (Some(7), None));
        assert_eq!(AtMost::default().plus(1).within(u64::MAX), None);
    }
}
