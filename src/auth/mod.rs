//! Who calls, and what they may do.
//!
//! `authenticate` attaches an [`Actor`] to every request and never refuses; `authorize` refuses. So a refusal is recorded
//! like everything else. Nothing here knows the audit ring or an endpoint.

mod actor;
mod permission;

pub use actor::{Actor, AuthMethod};
pub use permission::{Permission, PermissionSet, Roles};
