//! The audit ring: every call an entry, none lost silently.
//!
//! ```text
//! middleware -> Entry -> Writer (one thread, group commit) -> Ring (SQLite) -> Reader
//! ```
//!
//! The writer's thread owns the only connection that writes; the reader can't write. Nothing here names an endpoint.

mod budget;
mod class;
pub mod connection;
mod entry;
pub mod filter;
pub mod metrics;
mod middleware;
mod paging;
mod rate;
mod reader;
pub mod redact;
pub mod retention;
pub mod ring;
mod stats;
mod writer;

pub use class::{Class, Durability};
pub use entry::{Arrival, Call, Entry, EntryId, Outcome, Seq, ServedEntry};
pub use filter::{Filter, FilterError};
pub use metrics::{Counts, Metrics};
pub use middleware::{AUDIT_ID, Auditing, CallFailure, OnStoreFailure, Verdict, audit};
pub use rate::Rates;
pub(crate) use reader::CONCURRENT_READERS;
pub use reader::{
    ClassCounts, ClassFacts, Cursor, Gap, GapReason, Known, Oldest, Order, ReadError, Reader, RingFacts, Scan,
    ScanStep, Search, Walk,
};
pub use stats::{AuditStatus, ClassStatus, StoreHealth};
pub use writer::{Commit, Durabilities, Place, Recorded, StoreError, Writer, WriterOptions, WriterThread};
