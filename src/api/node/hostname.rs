//! `/node/hostname`: the host name.

use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::Object;
use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{Hostname, HostnameReading};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/hostname`.
pub(super) const ENDPOINTS: [Endpoint; 2] = [GET, PUT];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeHostname",
        method: Method::Get,
        path: "/node/hostname",
        permission: Permission::NodeRead,
        summary: "The host name.",
    },
    input: Input::NONE,
    success: Success::json("The host name.", &[("application/json", schema_of::<HostnameReading>)]),
    errors: &[],
    handler: || web::to(get),
};

const PUT: Endpoint = Endpoint {
    operation: Operation {
        id: "PutNodeHostname",
        method: Method::Put,
        path: "/node/hostname",
        permission: Permission::NodeWrite,
        summary: "Gives the node another host name, now and for later boots.",
    },
    input: Input { body: Some(schema_of::<HostnameChange>), ..Input::NONE },
    success: Success::json("The new host name.", &[("application/json", schema_of::<HostnameReading>)]),
    errors: &[408, 413, 415],
    handler: || web::to(put),
};

/// The host name that the node is to have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostnameChange {
    /// The new host name.
    #[schemars(with = "Hostname")]
    hostname: String,
}

async fn get(state: web::Data<AppState>) -> Result<web::Json<HostnameReading>, ApiError> {
    Ok(web::Json(state.host.hostname()?))
}

async fn put(
    state: web::Data<AppState>,
    body: web::Json<Object<HostnameChange>>,
) -> Result<web::Json<HostnameReading>, ApiError> {
    let Object(change) = body.into_inner();
    Ok(web::Json(state.host.set_hostname(&change.hostname).await?))
}
