//! A value that can be replaced while it is in use.

use std::cell::{Ref, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A handle to a shared value. Who reads keeps the value that was there when he asked, however often it is replaced meanwhile; no
/// lock is held longer than it takes to count one more reader.
#[derive(Debug)]
pub struct Live<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<Arc<T>>,
    /// How often it was replaced; counted under the lock.
    generation: AtomicU64,
}

/// The value as one thread has it at hand: asked for with every call, it would cost each of them a lock and a count that all threads
/// write to. One that was replaced is kept until this thread asks again.
#[derive(Debug)]
pub struct Held<T> {
    live: Live<T>,
    value: RefCell<(u64, Arc<T>)>,
}

impl<T> Live<T> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared { value: RwLock::new(Arc::new(value)), generation: AtomicU64::new(0) }))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.generation_and_value().1
    }

    /// The same for a thread that asks with every call.
    pub fn held(self) -> Held<T> {
        let value = RefCell::new(self.generation_and_value());
        Held { live: self, value }
    }

    /// Who asks from now on is given this value.
    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        let mut current = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, value);
        self.0.generation.fetch_add(1, Ordering::Release);
        drop(current);
        // Dropping a value can take its time; the lock has been given back by now.
        drop(old);
    }

    fn generation_and_value(&self) -> (u64, Arc<T>) {
        // Only the replacing of a pointer is ever under the lock, so a panic can't have left half of it.
        let value = self.0.value.read().unwrap_or_else(PoisonError::into_inner);
        (self.0.generation.load(Ordering::Acquire), Arc::clone(&value))
    }
}

impl<T> Held<T> {
    /// The value as it is now.
    pub fn get(&self) -> Ref<'_, T> {
        if self.live.0.generation.load(Ordering::Acquire) != self.value.borrow().0 {
            self.value.replace(self.live.generation_and_value());
        }
        Ref::map(self.value.borrow(), |(_, value)| &**value)
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_what_it_was_given() {
        let live = Live::new(1);
        let (before, other) = (live.get(), live.clone());
        other.set(2);
        assert_eq!((*before, *live.get()), (1, 2));
    }

    #[test]
    fn what_a_thread_has_at_hand_is_the_value_as_it_is_now() {
        let live = Live::new(1);
        let held = live.clone().held();
        assert_eq!(*held.get(), 1);
        std::thread::scope(|scope| scope.spawn(|| live.set(2)).join().unwrap());
        assert_eq!(*held.get(), 2);
        let replaced = Arc::downgrade(&live.get());
        live.set(3);
        assert_eq!(*held.get(), 3);
        assert!(replaced.upgrade().is_none(), "nobody has it any more");
    }
}
