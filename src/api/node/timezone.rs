//! `/node/timezone`: the time zone.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::Object;
use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{Timezone, TimezoneName};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/timezone`.
pub(super) const ENDPOINTS: [Endpoint; 2] = [GET, PUT];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeTimezone",
        method: Method::Get,
        path: "/node/timezone",
        permission: Permission::NodeRead,
        summary: "The time zone.",
    },
    input: Input::NONE,
    success: Success::json("The time zone.", &[("application/json", schema_of::<Timezone>)]),
    errors: &[],
    handler: || web::to(get),
};

const PUT: Endpoint = Endpoint {
    operation: Operation {
        id: "PutNodeTimezone",
        method: Method::Put,
        path: "/node/timezone",
        permission: Permission::NodeWrite,
        summary: "Gives the node another time zone.",
    },
    input: Input { body: Some(schema_of::<TimezoneChange>), ..Input::NONE },
    success: Success::json("The new time zone.", &[("application/json", schema_of::<Timezone>)]),
    errors: &[404, 408, 413, 415],
    handler: || web::to(put),
};

/// The time zone that the node is to have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TimezoneChange {
    /// The new time zone.
    #[schemars(with = "TimezoneName")]
    timezone: String,
}

async fn get(state: web::Data<AppState>) -> Result<web::Json<Timezone>, ApiError> {
    Ok(web::Json(state.host.timezone().await?))
}

async fn put(
    state: web::Data<AppState>,
    body: web::Json<Object<TimezoneChange>>,
) -> Result<web::Json<Timezone>, ApiError> {
    let Object(change) = body.into_inner();
    Ok(web::Json(state.host.set_timezone(&change.timezone).await?))
}
