//! `/version` and `/openapi.json`: what the agent says of itself.

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::AppState;
use super::endpoint::{Endpoint, Input, Success, schema_of};
use super::json::{Json, Pending};
use crate::auth::Permission;
use crate::operation::{Method, Operation};

/// The endpoints of the agent's self-description.
pub(super) const ENDPOINTS: [Endpoint; 2] = [VERSION, OPENAPI];

const VERSION: Endpoint = Endpoint {
    operation: Operation {
        id: "GetVersion",
        method: Method::Get,
        path: "/version",
        permission: Permission::HealthRead,
        summary: "The agent's version.",
    },
    input: Input::NONE,
    success: Success::json("The version.", &[("application/json", schema_of::<About>)]),
    errors: &[],
    handler: || web::to(version),
};

const OPENAPI: Endpoint = Endpoint {
    operation: Operation {
        id: "GetOpenapi",
        method: Method::Get,
        path: "/openapi.json",
        permission: Permission::HealthRead,
        summary: "This API, described as OpenAPI 3.1.",
    },
    input: Input::NONE,
    success: Success::json("The description.", &[("application/json", schema_of::<Map<String, Value>>)]),
    errors: &[],
    handler: || web::to(openapi),
};

/// What runs here.
#[derive(Serialize, JsonSchema)]
struct About {
    /// `nodeaudit`.
    name: &'static str,
    /// Semantic version of the agent.
    version: &'static str,
    /// The machine it was built for, such as `aarch64`.
    architecture: &'static str,
}

async fn version() -> web::Json<About> {
    web::Json(About {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
    })
}

async fn openapi(state: web::Data<AppState>) -> Json {
    Json { body: state.openapi.get().as_bytes().to_vec(), pending: Pending(0) }
}
