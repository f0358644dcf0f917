//! Locks of loom's, and a clock that stands still until a model lets time pass.
//!
//! Who waits with a timeout is woken by whoever notifies, or by [`pass`]: that a model calls it in a thread of its own is how
//! a timeout can come between any two steps. All of a model runs in one thread of the system, a step at a time, so that what is not
//! loom's here is no step by itself.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Add, Deref, DerefMut, Sub};
use std::sync::Arc;
use std::time::Duration;

pub(super) use std::sync::PoisonError;

type LockResult<T> = Result<T, PoisonError<T>>;

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

/// The time of the model that runs now.
#[derive(Default)]
struct Clock {
    now: Duration,
    /// Wakes those who wait until some time.
    alarms: Vec<Box<dyn Fn()>>,
    kind: Kind,
}

/// What is special about a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Usual,
    /// Every wait with a timeout ends by it.
    Restless,
    /// Nobody is ever notified: a queue that forgets it.
    Mute,
}

/// A model begins.
pub(super) fn begin(kind: Kind) {
    CLOCK.replace(Clock { kind, ..Clock::default() });
}

/// Lets time pass.
pub(super) fn pass(time: Duration) {
    let alarms = CLOCK.with_borrow_mut(|clock| {
        clock.now += time;
        std::mem::take(&mut clock.alarms)
    });
    for ring in alarms {
        ring();
    }
}

/// A time of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(Duration);

impl Instant {
    pub(super) fn now() -> Self {
        Self(CLOCK.with_borrow(|clock| clock.now))
    }

    pub(super) fn elapsed(self) -> Duration {
        Self::now() - self
    }

    pub(super) fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

pub(super) struct Mutex<T>(Arc<loom::sync::Mutex<T>>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(loom::sync::Mutex::new(value)))
    }

    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(MutexGuard { mutex: &self.0, held })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

pub(super) struct MutexGuard<'a, T> {
    mutex: &'a Arc<loom::sync::Mutex<T>>,
    held: loom::sync::MutexGuard<'a, T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

pub(super) struct Condvar(Arc<loom::sync::Condvar>);

impl Condvar {
    pub(super) fn new() -> Self {
        Self(Arc::new(loom::sync::Condvar::new()))
    }

    pub(super) fn notify_one(&self) {
        if CLOCK.with_borrow(|clock| clock.kind) != Kind::Mute {
            self.0.notify_one();
        }
    }

    pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let held = self.0.wait(guard.held).unwrap_or_else(PoisonError::into_inner);
        Ok(MutexGuard { held, ..guard })
    }

    /// Returns when it is notified or when the time has passed; the queue does not ask which.
    pub(super) fn wait_timeout<'a, T: 'static>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let mutex = guard.mutex;
        let is_over = CLOCK.with_borrow_mut(|clock| {
            let is_over = timeout.is_zero() || clock.kind == Kind::Restless;
            if is_over {
                // Two looks at a real clock never give the same.
                clock.now += timeout + Duration::from_nanos(1);
            } else {
                let (mutex, condvar) = (Arc::clone(mutex), Arc::clone(&self.0));
                clock.alarms.push(Box::new(move || {
                    // Who has set this alarm holds the lock until it waits.
                    drop(mutex.lock());
                    condvar.notify_all();
                }));
            }
            is_over
        });
        if !is_over {
            return Ok((self.wait(guard).unwrap_or_else(PoisonError::into_inner), ()));
        }
        drop(guard);
        let held = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((MutexGuard { mutex, held }, ()))
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}
