//! Calling an agent: this node's or another one's.
//!
//! Owns where an agent is reached, whom the caller trusts and what he shows, and HTTP/1.1 as a caller speaks it. What comes from an
//! agent is not trusted: each size and each time has a limit. Knows nothing of terminals and of files with results.

mod answer;
mod body;
mod caller;
mod connection;
mod error;
mod input;
mod page;
mod query;
mod secret;
mod target;
mod text;
mod trust;

pub use answer::{Answer, Links};
pub use caller::{Caller, Limits};
pub use error::{ClientError, Problem};
pub use page::{GapTold, PAGE_MAX_BYTES, Page, PageCursor, line_of, seq_of};
pub use query::Query;
pub use secret::{Secret, SecretError};
pub use target::{Target, TargetError};
pub use text::{one_line, printable};
pub use trust::{Pin, PinError, Trust};
