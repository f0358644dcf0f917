//! `/node/service/...`: services.

use actix_web::http::StatusCode;
use actix_web::{Route, web};

use crate::api::endpoint::{Endpoint, Input, PathParameter, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{Service, ServiceAccepted, ServiceAction, ServiceName, Services};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/service`.
pub(super) const ENDPOINTS: [Endpoint; 5] = [
    GET_ALL,
    GET,
    post("PostNodeServiceStart", "/node/service/{name}/start", "Starts a service.", || web::to(start)),
    post("PostNodeServiceStop", "/node/service/{name}/stop", "Stops a service.", || web::to(stop)),
    post(
        "PostNodeServiceRestart",
        "/node/service/{name}/restart",
        "Restarts a service, or starts it where it does not run.",
        || web::to(restart),
    ),
];

const GET_ALL: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeServices",
        method: Method::Get,
        path: "/node/service",
        permission: Permission::NodeRead,
        summary: "The services that systemd has loaded.",
    },
    input: Input::NONE,
    success: Success::json("The services.", &[("application/json", schema_of::<Services>)]),
    errors: &[],
    handler: || web::to(get_all),
};

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeService",
        method: Method::Get,
        path: "/node/service/{name}",
        permission: Permission::NodeRead,
        summary: "One service.",
    },
    input: Input { path_parameters: &[NAME], ..Input::NONE },
    success: Success::json("The service.", &[("application/json", schema_of::<Service>)]),
    errors: &[404],
    handler: || web::to(get),
};

const NAME: PathParameter = PathParameter {
    name: "name",
    description: "Name of the service, such as ssh or ssh.service.",
    schema: schema_of::<ServiceName>,
};

type Accepted = (web::Json<ServiceAccepted>, StatusCode);

const fn post(id: &'static str, path: &'static str, summary: &'static str, handler: fn() -> Route) -> Endpoint {
    Endpoint {
        operation: Operation { id, method: Method::Post, path, permission: Permission::ServiceWrite, summary },
        input: Input { path_parameters: &[NAME], ..Input::NONE },
        success: Success::accepted(
            "systemd has taken the order; the service tells how it went.",
            &[("application/json", schema_of::<ServiceAccepted>)],
        ),
        errors: &[404],
        handler,
    }
}

async fn get_all(state: web::Data<AppState>) -> Result<web::Json<Services>, ApiError> {
    Ok(web::Json(state.host.services().await?))
}

async fn get(state: web::Data<AppState>, name: web::Path<String>) -> Result<web::Json<Service>, ApiError> {
    Ok(web::Json(state.host.service(&name).await?))
}

async fn start(state: web::Data<AppState>, name: web::Path<String>) -> Result<Accepted, ApiError> {
    let accepted = state.host.control_service(&name, ServiceAction::Start).await?;
    Ok((web::Json(accepted), StatusCode::ACCEPTED))
}

async fn stop(state: web::Data<AppState>, name: web::Path<String>) -> Result<Accepted, ApiError> {
    let accepted = state.host.control_service(&name, ServiceAction::Stop).await?;
    Ok((web::Json(accepted), StatusCode::ACCEPTED))
}

async fn restart(state: web::Data<AppState>, name: web::Path<String>) -> Result<Accepted, ApiError> {
    let accepted = state.host.control_service(&name, ServiceAction::Restart).await?;
    Ok((web::Json(accepted), StatusCode::ACCEPTED))
}
