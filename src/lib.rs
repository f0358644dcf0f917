//! nodeaudit: the on-device audit agent.
pub mod api;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod host;
mod listener;
pub mod operation;
pub mod report;
pub mod server;
