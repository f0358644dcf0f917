//! `/node/power/...`: rebooting the node and shutting it down.

use actix_web::http::StatusCode;
use actix_web::{Route, web};

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{PowerAccepted, PowerAction};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/power`.
pub(super) const ENDPOINTS: [Endpoint; 2] = [
    post("PostNodePowerReboot", "/node/power/reboot", "Reboots the node.", || web::to(reboot)),
    post("PostNodePowerShutdown", "/node/power/shutdown", "Powers the node off.", || web::to(shutdown)),
];

type Accepted = (web::Json<PowerAccepted>, StatusCode);

const fn post(id: &'static str, path: &'static str, summary: &'static str, handler: fn() -> Route) -> Endpoint {
    Endpoint {
        operation: Operation { id, method: Method::Post, path, permission: Permission::PowerExecute, summary },
        input: Input::NONE,
        success: Success::accepted("The node goes down shortly.", &[("application/json", schema_of::<PowerAccepted>)]),
        errors: &[],
        handler,
    }
}

async fn reboot(state: web::Data<AppState>) -> Result<Accepted, ApiError> {
    let accepted = state.host.power(PowerAction::Reboot).await?;
    Ok((web::Json(accepted), StatusCode::ACCEPTED))
}

async fn shutdown(state: web::Data<AppState>) -> Result<Accepted, ApiError> {
    let accepted = state.host.power(PowerAction::Shutdown).await?;
    Ok((web::Json(accepted), StatusCode::ACCEPTED))
}
