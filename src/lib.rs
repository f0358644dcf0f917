//! nodeaudit.
pub mod api;
pub mod auth;
pub mod host;
pub mod operation;
