//! `/health`: whether the agent lives, and whether it can record.

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint::{Endpoint, Input, Success, schema_of};
use super::{ApiError, AppState};
use crate::auth::Permission;
use crate::operation::{Method, Operation};

/// The endpoints of `/health`.
pub(super) const ENDPOINTS: [Endpoint; 2] = [LIVE, READY];

const LIVE: Endpoint = Endpoint {
    operation: Operation {
        id: "GetHealth",
        method: Method::Get,
        path: "/health",
        permission: Permission::Public,
        summary: "Whether the agent lives.",
    },
    input: Input::NONE,
    success: Success::json("It lives.", &[("application/json", schema_of::<Health>)]),
    errors: &[],
    handler: || web::to(live),
};

const READY: Endpoint = Endpoint {
    operation: Operation {
        id: "GetHealthReady",
        method: Method::Get,
        path: "/health/ready",
        permission: Permission::Public,
        summary: "Whether the audit store can write, so that changes are accepted; 503 where it can't.",
    },
    input: Input::NONE,
    success: Success::json("It can.", &[("application/json", schema_of::<Health>)]),
    errors: &[],
    handler: || web::to(ready),
};

/// The agent's health.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`; anything else is an error response.
    status: &'static str,
}

async fn live() -> web::Json<Health> {
    web::Json(Health { status: "ok" })
}

async fn ready(state: web::Data<AppState>) -> Result<web::Json<Health>, ApiError> {
    state.writer.health()?;
    Ok(web::Json(Health { status: "ok" }))
}
