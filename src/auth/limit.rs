//! How often one may call: the generic cell rate algorithm over a bounded number of callers.
//!
//! A caller is one 8-byte time: when all that he has used will have been paid for. Who is not remembered has his whole burst. So many
//! are remembered at most; those not seen for longest make room, in two generations, so that nobody has to be searched for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit of each caller's calls.
#[derive(Debug)]
pub(super) struct Limit<K> {
    /// What one call costs; none: no limit.
    cost: Option<Duration>,
    /// What a caller may owe.
    burst: Duration,
    /// Callers in a generation.
    generation: usize,
    callers: Mutex<Callers<K>>,
}

/// Who has called, and until when he is paying for it.
#[derive(Debug)]
struct Callers<K> {
    recent: HashMap<K, Instant>,
    older: HashMap<K, Instant>,
}

impl<K: Eq + Hash> Limit<K> {
    /// So many calls in `period`, and `burst` at once, for each of `tracked` callers. No calls in a period: no limit.
    pub(super) fn new(calls: u64, period: Duration, burst: u64, tracked: usize) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let cost = nanos(period).checked_div(calls).map(Duration::from_nanos);
        let burst = Duration::from_nanos(cost.map_or(0, |cost| nanos(cost).saturating_mul(burst)));
        let callers = Mutex::new(Callers { recent: HashMap::new(), older: HashMap::new() });
        Self { cost, burst, generation: tracked.div_ceil(2), callers }
    }

    /// Counts a call at `now`. An error: it is one too many, and the next one is not before this time has passed.
    pub(super) fn count<Q>(&self, caller: &Q, now: Instant) -> Result<(), Duration>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let Some(cost) = self.cost else { return Ok(()) };
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let callers = &mut *callers;
        let recent = callers.recent.get_mut(caller);
        let paid = recent.as_deref().copied().or_else(|| callers.older.remove(caller));
        let before = paid.map_or(now, |paid| paid.max(now));
        let paid = before + cost;
        let early = paid.saturating_duration_since(now).saturating_sub(self.burst);
        // A call that is refused costs nothing, or who goes on calling would never be let in again.
        let paid = if early.is_zero() { paid } else { before };
        if let Some(recent) = recent {
            *recent = paid;
        } else {
            if callers.recent.len() >= self.generation {
                callers.older = std::mem::take(&mut callers.recent);
            }
            callers.recent.insert(caller.to_owned(), paid);
        }
        if early.is_zero() { Ok(()) } else { Err(early) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(calls: u64, burst: u64, tracked: usize) -> Limit<u32> {
        Limit::new(calls, Duration::from_secs(1), burst, tracked)
    }

    #[test]
    fn a_burst_is_let_in_and_then_so_many_in_a_period() {
        let (limit, begin) = (limit(10, 5, 16), Instant::now());
        let at = |ms| limit.count(&1, begin + Duration::from_millis(ms));
        assert!((0..5).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(40), Err(Duration::from_millis(60)));
        assert_eq!(at(100), Ok(()));
        assert!(at(100).is_err());
        assert_eq!(limit.count(&2, begin), Ok(()), "another caller");
        assert!((0..5).all(|_| at(10_000).is_ok()), "a pause brings the burst back");
        assert!(at(10_000).is_err());
    }

    #[test]
    fn no_calls_in_a_period_is_no_limit() {
        let limit = limit(0, 1, 16);
        assert!((0..1_000).all(|_| limit.count(&1, Instant::now()).is_ok()));
        assert!(limit.callers.lock().unwrap().recent.is_empty());
    }

    #[test]
    fn so_many_are_remembered_and_those_who_go_on_calling_among_them() {
        let (limit, now) = (limit(1, 1, 100), Instant::now());
        assert!(limit.count(&0, now).is_ok());
        for caller in 1..10_000 {
            assert!(limit.count(&caller, now).is_ok());
            if caller % 20 == 0 {
                assert!(limit.count(&0, now).is_err(), "who keeps calling is not forgotten");
            }
            let callers = limit.callers.lock().unwrap();
            assert!(callers.recent.len() + callers.older.len() <= 100);
        }
    }
}
