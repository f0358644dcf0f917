//! `/node/log`: the end of the journal.

use actix_web::web;

use crate::api::endpoint::{Endpoint, Input, Success, schema_of};
use crate::api::{ApiError, AppState};
use crate::auth::Permission;
use crate::host::{Log, LogQuery};
use crate::operation::{Method, Operation};

/// The endpoints of `/node/log`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [GET];

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetNodeLog",
        method: Method::Get,
        path: "/node/log",
        permission: Permission::LogRead,
        summary: "The newest entries of the journal.",
    },
    input: Input { query: Some(schema_of::<LogQuery>), ..Input::NONE },
    success: Success::json("Entries, newest first.", &[("application/json", schema_of::<Log>)]),
    errors: &[],
    handler: || web::to(get),
};

async fn get(state: web::Data<AppState>, query: web::Query<LogQuery>) -> Result<web::Json<Log>, ApiError> {
    Ok(web::Json(state.host.log(query.into_inner()).await?))
}
