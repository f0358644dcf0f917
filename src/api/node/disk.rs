//! `/node/disk`: mounted file systems.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::Disks;
use crate::operation::{Method, Operation};

/// The endpoints of `/node/disk`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeDisk",
        method: Method::Get,
        path: "/node/disk",
        permission: Permission::NodeRead,
        summary: "The mounted file systems and how full they are.",
    },
    input: Input::NONE,
    success: Success::json("The mounted file systems.", &[("application/json", schema_of::<Disks>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>) -> Result<web::Json<Disks>, ApiError> {
    Ok(web::Json(state.host.disks().await?))
}
