//! The logs of many nodes, in files on one machine.
//!
//! Owns the list of nodes, a file with entries and a cursor for each of them, and how the two stay in step whenever the machine or the
//! program stops. Agents are called through `client`; nothing here prints.

mod nodes;
mod output;
mod place;
mod pull;
mod store;

pub use nodes::{Node, NodeName, Nodes, NodesError};
pub use pull::{Pull, PullError, Report};
pub use store::{Store, StoreError};
