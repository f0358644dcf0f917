//! nodeaudit.
pub mod api;
pub mod audit;
pub mod auth;
pub mod host;
pub mod operation;
pub mod report;
