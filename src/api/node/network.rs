//! `/node/network/...`: interfaces and name servers.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, PathParameter, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{Dns, InterfaceName, NetworkInterface, NetworkInterfaces};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/network`.
pub(super) const ENDPOINTS: [Endpoint; 3] = [GET_INTERFACES, GET_INTERFACE, GET_DNS];

const GET_INTERFACES: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeNetworkInterfaces",
        method: Method::Get,
        path: "/node/network/interface",
        permission: Permission::NodeRead,
        summary: "The network interfaces.",
    },
    input: Input::NONE,
    success: Success::json("The network interfaces.", &[("application/json", schema_of::<NetworkInterfaces>)]),
    errors: &[],
    handler: || web::to(get_interfaces),
};

const GET_INTERFACE: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeNetworkInterface",
        method: Method::Get,
        path: "/node/network/interface/{name}",
        permission: Permission::NodeRead,
        summary: "One network interface.",
    },
    input: Input {
        path_parameters: &[PathParameter {
            name: "name",
            description: "Name of the interface, such as eth0.",
            schema: schema_of::<InterfaceName>,
        }],
        ..Input::NONE
    },
    success: Success::json("The network interface.", &[("application/json", schema_of::<NetworkInterface>)]),
    errors: &[404],
    handler: || web::to(get_interface),
};

const GET_DNS: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeNetworkDns",
        method: Method::Get,
        path: "/node/network/dns",
        permission: Permission::NodeRead,
        summary: "How the node resolves names.",
    },
    input: Input::NONE,
    success: Success::json("The name servers and the resolver's options.", &[("application/json", schema_of::<Dns>)]),
    errors: &[],
    handler: || web::to(get_dns),
};

async fn get_interfaces(state: web::Data<AppState>) -> Result<web::Json<NetworkInterfaces>, ApiError> {
    Ok(web::Json(state.host.network_interfaces().await?))
}

async fn get_interface(
    state: web::Data<AppState>,
    name: web::Path<String>,
) -> Result<web::Json<NetworkInterface>, ApiError> {
    Ok(web::Json(state.host.network_interface(&name).await?))
}

async fn get_dns(state: web::Data<AppState>) -> Result<web::Json<Dns>, ApiError> {
    Ok(web::Json(state.host.dns().await?))
}
