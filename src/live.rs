//! A value that can be replaced while it is in use.

use std::sync::{Arc, PoisonError, RwLock};

/// A handle to a shared value. Who reads keeps the value that was there when he asked, however often it is replaced meanwhile; no
/// lock is held longer than it takes to count one more reader.
#[derive(Debug)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Live<T> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        // Only the replacing of a pointer is ever under the lock, so a panic can't have left half of it.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who asks from now on is given this value.
    pub fn set(&self, value: T) {
        let old = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::new(value));
        // Dropping a value can take its time; the lock has been given back by now.
        drop(old);
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
}
