//! `/node/os`: the operating system.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Os;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/os`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeOs",
        method: Method::Get,
        path: "/node/os",
        permission: Permission::NodeRead,
        summary: "The operating system and its kernel.",
    },
    input: Input::NONE,
    success: Success::json("The operating system and its kernel.", &[("application/json", schema_of::<Os>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Os>, ApiError> {
    Ok(web::Json(state.host.os().await?))
}
