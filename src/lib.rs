//! nodeaudit.
pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
pub mod host;
pub mod operation;
pub mod server;
