//! `/node/uptime`: how long the node runs.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Uptime;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/uptime`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeUptime",
        method: Method::Get,
        path: "/node/uptime",
        permission: Permission::NodeRead,
        summary: "How long the node runs.",
    },
    input: Input::NONE,
    success: Success::json("The time since boot.", &[("application/json", schema_of::<Uptime>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Uptime>, ApiError> {
    Ok(web::Json(state.host.uptime()?))
}
