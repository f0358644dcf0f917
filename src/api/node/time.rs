//! `/node/time`: what time the node believes it is.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Time;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/time`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeTime",
        method: Method::Get,
        path: "/node/time",
        permission: Permission::NodeRead,
        summary: "What time the node believes it is.",
    },
    input: Input::NONE,
    success: Success::json("The node's clocks.", &[("application/json", schema_of::<Time>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Time>, ApiError> {
    Ok(web::Json(state.host.time().await?))
}
