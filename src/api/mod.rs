//! The API: endpoints over the modules below.
//!
//! Handlers extract, call one function and return a typed value. No SQL, no permission check, no response building here;
//! status codes live in `error`.

mod audit;
mod encoding;
pub mod endpoint;
mod error;
mod event;
mod export;
pub(crate) mod format;
mod freshness;
mod health;
mod json;
mod links;
mod metrics;
mod node;
mod open_calls;
mod openapi;
mod page;
mod query;
mod routes;
mod state;
mod stream;
mod version;

pub use error::{ApiError, ErrorBody};
pub use open_calls::OpenCalls;
pub use openapi::document;
pub use routes::{answer, endpoints, mount};
pub use state::AppState;
