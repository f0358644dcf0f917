//! `/node/status`: the node at a glance.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Status;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/status`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeStatus",
        method: Method::Get,
        path: "/node/status",
        permission: Permission::NodeRead,
        summary: "The node at a glance.",
    },
    input: Input::NONE,
    success: Success::json("The readings that an overview shows.", &[("application/json", schema_of::<Status>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Status>, ApiError> {
    Ok(web::Json(state.host.status().await?))
}
