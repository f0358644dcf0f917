//! The audit ring: every call an entry, none lost silently.
//!
//! ```text
//! middleware -> Entry -> Writer (one thread, group commit) -> Ring (SQLite) -> Reader
//! ```
//!
//! The writer's thread owns the only connection that writes; the reader can't write. Nothing here names an endpoint.

mod class;
mod entry;
mod redact;

pub use class::{Class, Durability};
pub use entry::{Arrival, Call, Entry, EntryId, Outcome, Seq, ServedEntry};
