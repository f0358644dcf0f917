//! `/node/load`: how busy the node is.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Load;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/load`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeLoad",
        method: Method::Get,
        path: "/node/load",
        permission: Permission::NodeRead,
        summary: "How busy the node is.",
    },
    input: Input::NONE,
    success: Success::json("The load averages.", &[("application/json", schema_of::<Load>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Load>, ApiError> {
    Ok(web::Json(state.host.load()?))
}
