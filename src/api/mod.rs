//! The API: endpoints over the modules below.
//!
//! Handlers extract, call one function and return a typed value. No SQL, no permission check, no response building here;
//! status codes live in `error`.

pub mod endpoint;
mod error;
pub mod node;
mod state;

pub use error::{ApiError, ErrorBody};
pub use state::AppState;
