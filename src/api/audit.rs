//! `/audit`: the ring, read.

use std::sync::Arc;

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::endpoint::{Endpoint, Input, PathParameter, Success, schema_of};
use super::export::{Export, Format};
use super::json::{Json, write};
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::{AuditStatus, EntryId, Reader, ServedEntry};
use crate::auth::Permission;
use crate::operation::{Method, Operation};
use crate::reload::ReloadStatus;

/// The endpoints of `/audit`.
pub(super) const ENDPOINTS: [Endpoint; 4] = [LIST, EXPORT, STATUS, GET];

const LIST: Endpoint = Endpoint {
    operation: Operation {
        id: "GetAuditLogs",
        method: Method::Get,
        path: "/audit",
        permission: Permission::AuditRead,
        summary: "List audit log entries, newest first.",
    },
    input: Input { query: Some(schema_of::<PageQuery>), ..Input::NONE },
    success: Success::json("List of audit entries.", &[("application/json", schema_of::<AuditPage>)]),
    errors: &[],
    handler: || web::to(list),
};

const EXPORT: Endpoint = Endpoint {
    operation: Operation {
        id: "GetAuditExport",
        method: Method::Get,
        path: "/audit/export",
        permission: Permission::AuditRead,
        summary: "Export all audit entries, oldest first.",
    },
    input: Input { query: Some(schema_of::<ExportQuery>), ..Input::NONE },
    success: Success {
        status: 200,
        description: "All entries held when the export began.",
        content: &[
            ("application/json", schema_of::<AuditExport>),
            ("application/x-ndjson", schema_of::<ServedEntry<'static>>),
        ],
    },
    errors: &[],
    handler: || web::to(export),
};

const STATUS: Endpoint = Endpoint {
    operation: Operation {
        id: "GetAuditStatus",
        method: Method::Get,
        path: "/audit/status",
        permission: Permission::AuditRead,
        summary: "The audit ring described: what it holds, what it lost, whether it can store.",
    },
    input: Input::NONE,
    success: Success::json(
        "The audit ring, and what the agent works with.",
        &[("application/json", schema_of::<Status>)],
    ),
    errors: &[],
    handler: || web::to(status),
};

const GET: Endpoint = Endpoint {
    operation: Operation {
        id: "GetAuditLogByID",
        method: Method::Get,
        path: "/audit/{id}",
        permission: Permission::AuditRead,
        summary: "Get one audit log entry.",
    },
    input: Input {
        path_parameters: &[PathParameter {
            name: "id",
            description: "The entry's ID, as in the header `Audit-Id` of the response to its call.",
            schema: schema_of::<uuid::Uuid>,
        }],
        ..Input::NONE
    },
    success: Success::json("The entry.", &[("application/json", schema_of::<OneEntry>)]),
    errors: &[404],
    handler: || web::to(get),
};

/// Which part of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// Maximum number of entries to return.
    #[serde(default = "default_limit", deserialize_with = "limit")]
    #[schemars(range(min = 1, max = 100))]
    limit: u64,
    /// Number of entries to skip.
    #[serde(default, deserialize_with = "decimal")]
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    offset: u64,
}

fn default_limit() -> u64 {
    20
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let limit = decimal(deserializer)?;
    (1..=100).contains(&limit).then_some(limit).ok_or_else(|| serde::de::Error::custom("limit must be 1 to 100"))
}

/// Decimal digits and nothing else, up to the largest number of 63 bits.
fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_decimal { text.parse::<i64>().ok() } else { None };
    number
        .map(i64::unsigned_abs)
        .ok_or_else(|| serde::de::Error::custom("limit and offset take a whole number below 2^63 in decimal digits"))
}

/// In which format to export.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// The format; where it is left out, the `Accept` header decides, and JSON is the default.
    #[serde(default)]
    format: Option<Format>,
}

/// A page of the list.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `list` writes, for the API description")]
struct AuditPage {
    /// Total number of audit entries.
    total_items: u64,
    /// The audit entries for this page.
    items: Vec<ServedEntry<'static>>,
}

/// Everything.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `export` writes, for the API description")]
struct AuditExport {
    /// The audit entries, oldest first.
    items: Vec<ServedEntry<'static>>,
    /// Number of entries exported.
    total_items: u64,
    /// Entries that were evicted during the export, before they could be read.
    evicted_items: u64,
}

/// One entry.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `get` writes, for the API description")]
struct OneEntry {
    /// The entry.
    entry: ServedEntry<'static>,
}

/// The ring described, and how the agent came to be as it is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditStatus")]
struct Status {
    #[serde(flatten)]
    ring: AuditStatus,
    /// When configuration and keys were read, and what became of reloads.
    configuration: ReloadStatus,
}

async fn list(state: web::Data<AppState>, query: web::Query<PageQuery>) -> Result<Json, ApiError> {
    let PageQuery { limit, offset } = query.into_inner();
    let deadline = RingDeadline::from_now();
    let pending = state.make_visible(deadline).await;
    state
        .read(deadline, move |reader| {
            let mut items = Vec::with_capacity(limit.min(100) as usize * 512);
            let total = reader.page(limit, offset, |entry| append(&mut items, entry))?;
            let mut body = format!("{{\"total_items\":{total},\"items\":[").into_bytes();
            body.append(&mut items);
            body.extend_from_slice(b"]}");
            Ok(Json { body, pending })
        })
        .await
}

async fn get(state: web::Data<AppState>, id: web::Path<String>) -> Result<Json, ApiError> {
    let unknown = || ApiError::NotFound("The ring holds no entry with this ID; it may have been evicted.".to_owned());
    let id = EntryId::parse(&id).ok_or_else(unknown)?;
    let deadline = RingDeadline::from_now();
    let pending = state.make_visible(deadline).await;
    let found = state
        .read(deadline, move |reader| {
            let mut body = b"{\"entry\":".to_vec();
            let found = reader.entry(id, |entry| write(&mut body, entry))?;
            body.push(b'}');
            Ok(found.then_some(Json { body, pending }))
        })
        .await?;
    found.ok_or_else(unknown)
}

async fn status(state: web::Data<AppState>) -> Result<web::Json<Status>, ApiError> {
    let deadline = RingDeadline::from_now();
    state.make_visible(deadline).await;
    let (writer, ring) = (state.writer.clone(), state.ring.clone());
    let ring = state.read(deadline, move |reader| AuditStatus::gather(&ring, reader, &writer)).await?;
    Ok(web::Json(Status { ring, configuration: state.reloader.status() }))
}

async fn export(
    state: web::Data<AppState>,
    query: web::Query<ExportQuery>,
    request: HttpRequest,
) -> Result<Export, ApiError> {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = query.format.unwrap_or_else(|| Format::accepted(accept.unwrap_or_default()));
    let deadline = RingDeadline::from_now();
    let pending = state.make_visible(deadline).await;
    let cursor = state.read(deadline, Reader::export).await?;
    Ok(Export { state: Arc::clone(&state), cursor, format, pending })
}

fn append(items: &mut Vec<u8>, entry: &ServedEntry<'_>) {
    if !items.is_empty() {
        items.push(b',');
    }
    write(items, entry);
}
