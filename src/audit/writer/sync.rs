//! What the queue is made of, and all that it knows of threads and time.
//!
//! A module of its own, because `tests/queue` builds the same queue of other parts: ones of which it tries every order.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
pub(super) use std::time::Instant;
