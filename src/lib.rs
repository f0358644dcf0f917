//! nodeaudit.
pub mod api;
pub mod auth;
pub mod config;
pub mod host;
pub mod operation;
