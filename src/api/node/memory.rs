//! `/node/memory`: the node's memory.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Memory;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/memory`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeMemory",
        method: Method::Get,
        path: "/node/memory",
        permission: Permission::NodeRead,
        summary: "The node's memory.",
    },
    input: Input::NONE,
    success: Success::json("The memory and how much of it is in use.", &[("application/json", schema_of::<Memory>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Memory>, ApiError> {
    Ok(web::Json(state.host.memory()?))
}
