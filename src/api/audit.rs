//! `/audit`: the ring, read.

use std::sync::Arc;

use actix_web::http::header::ACCEPT;
use actix_web::{Either, HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::encoding::Encoding;
use super::endpoint::{Endpoint, Input, PathParameter, Success, schema_of};
use super::event::Event;
use super::export::Export;
use super::format::{Format, Listing};
use super::freshness::{Fresh, News, Patience, Tag};
use super::json::{Json, Pending};
use super::open_calls::OpenCounts;
use super::page::{NextCursor, Page, ReadPage};
use super::query::Query;
use super::state::RingDeadline;
use super::stream::EventStream;
use super::{ApiError, AppState};
use crate::audit::{AuditStatus, EntryId, Filter, Gap, Order, ServedEntry};
use crate::auth::{Permission, Standing};
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
    input: Input { query: Some(schema_of::<PageParameters>), ..Input::NONE },
    success: Success {
        status: 200,
        description: "List of audit entries.",
        content: &[
            ("application/json", schema_of::<AuditPage>),
            ("application/x-ndjson", schema_of::<ServedEntry<'static>>),
            ("text/csv", schema_of::<String>),
            ("application/vnd.fdo.journal", schema_of::<String>),
            (Listing::EVENTS, schema_of::<Event>),
        ],
    },
    errors: &[304],
    handler: || web::to(list),
};

const EXPORT: Endpoint = Endpoint {
    operation: Operation {
        id: "GetAuditExport",
        method: Method::Get,
        path: "/audit/export",
        permission: Permission::AuditRead,
        summary: "Export audit entries, oldest first.",
    },
    input: Input { query: Some(schema_of::<ExportParameters>), ..Input::NONE },
    success: Success {
        status: 200,
        description: "All entries that were held when the export began and that match.",
        content: &[
            ("application/json", schema_of::<AuditExport>),
            ("application/x-ndjson", schema_of::<ServedEntry<'static>>),
            ("text/csv", schema_of::<String>),
            ("application/vnd.fdo.journal", schema_of::<String>),
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
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `PageQuery::take` reads, for the API description")]
struct PageParameters {
    /// Maximum number of entries to return.
    #[schemars(range(min = 1, max = 100), extend("default" = 20))]
    limit: Option<u64>,
    /// Number of entries to skip.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64), extend("default" = 0))]
    offset: Option<u64>,
    /// Only entries with a higher `seq`, oldest first; with `as_of`, those just above it, newest first.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    after: Option<u64>,
    /// Only entries with a lower `seq`.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    before: Option<u64>,
    /// Only entries up to this `seq`: those that the ring held when the first page was made.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    as_of: Option<u64>,
    /// The ring that `after`, `before` or `as_of` is of.
    epoch: Option<uuid::Uuid>,
    /// What is accounted for, as the cursor of the answer before has it.
    #[schemars(regex(pattern = r"^[0-9]{1,18}(\.[0-9]{1,18}){2}((\.[0-9]{1,18}){3})?$"))]
    known: Option<String>,
    /// How long to wait for something new, where nothing is: `0s` to `60s`.
    #[schemars(regex(pattern = r"^([0-9]|[1-5][0-9]|60)s$"))]
    wait: Option<String>,
    /// The format; `sse` for entries as they are stored. Where it is left out, the `Accept` header decides, and JSON is the default.
    format: Option<Listing>,
    #[schemars(flatten)]
    filter: Filter,
}

/// Which entries to export, and in which format.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `export` reads, for the API description")]
struct ExportParameters {
    /// The format; where it is left out, the `Accept` header decides, and JSON is the default.
    format: Option<Format>,
    #[schemars(flatten)]
    filter: Filter,
}

/// A page of the list.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of what `list` writes, for the API description")]
struct AuditPage {
    /// Total number of audit entries; with filters, of those that match. Not there in a page by `after`, `before` or `as_of`.
    total_items: Option<u64>,
    /// The audit entries for this page.
    items: Vec<ServedEntry<'static>>,
    /// Where to read on; only in a page by `after`, `before` or `as_of`.
    cursor: Option<NextCursor>,
    /// What should be in this page and is not there any more.
    gap: Option<Gap>,
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
    /// The calls that are open now.
    open_calls: OpenCounts,
    /// When configuration and keys were read, and what became of reloads.
    configuration: ReloadStatus,
}

async fn list(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<Either<EventStream, Fresh<ReadPage>>, ApiError> {
    let mut query = Query::of(&request)?;
    match Listing::asked_for(query.take("format").as_deref(), &accept(&request))? {
        Listing::Events => EventStream::begin(state.into_inner(), &request, query).await.map(Either::Left),
        Listing::Page(format) => page(&state, &request, query, format).await.map(Either::Right),
    }
}

async fn page(
    state: &AppState,
    request: &HttpRequest,
    mut query: Query,
    format: Format,
) -> Result<Fresh<ReadPage>, ApiError> {
    let page = Page::take(&mut query, format)?;
    let patience = Patience::parse(query.take("wait").as_deref(), state.handler_timeout)?;
    query.finish()?;
    if !page.is_told_by_news() {
        return Ok(Fresh::Answer(None, page.read(state, patience).await?));
    }
    let tag = Tag::now(state);
    if tag.is_known_to(request) && patience.news_after(state, tag.news).await == News::None {
        return Ok(Fresh::Known(tag));
    }
    // Of what comes from here on, the page may have a part.
    let tag = Tag::now(state);
    let page = page.read(state, patience).await?;
    // What the store can't write now is in the tag and not in the page.
    Ok(Fresh::Answer(Some(tag).filter(|_| page.is_whole()), page))
}

/// What is wanted; the header can come in several lines.
fn accept(request: &HttpRequest) -> String {
    let lines = request.headers().get_all(ACCEPT).filter_map(|accept| accept.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

async fn get(state: web::Data<AppState>, id: web::Path<String>) -> Result<Json, ApiError> {
    let unknown = || ApiError::NotFound("The ring holds no entry with this ID; it may have been evicted.".to_owned());
    let id = EntryId::parse(&id).ok_or_else(unknown)?;
    let deadline = RingDeadline::from_now();
    let pending = state.make_visible(deadline).await;
    let found = state
        .read(deadline, move |reader| {
            let mut body = b"{\"entry\":".to_vec();
            let found = reader.entry(id, |entry| entry.write_json(&mut body))?;
            body.push(b'}');
            Ok(found.then_some(Json { body, pending }))
        })
        .await?;
    // Nobody may be told that there is no such entry while it may be one of those that are not stored yet.
    found.ok_or_else(|| match pending {
        Pending(0) => unknown(),
        Pending(calls) => ApiError::Unavailable(format!(
            "The entry may be one of the {calls} that are recorded and not on stable storage yet."
        )),
    })
}

async fn status(state: web::Data<AppState>) -> Result<web::Json<Status>, ApiError> {
    let deadline = RingDeadline::from_now();
    state.make_visible(deadline).await;
    let (writer, ring) = (state.writer.clone(), state.ring.clone());
    let ring = state.read(deadline, move |reader| AuditStatus::gather(&ring, reader, &writer)).await?;
    let (open_calls, configuration) = (state.open_calls.counts(), state.reloader.status());
    Ok(web::Json(Status { ring, open_calls, configuration }))
}

async fn export(state: web::Data<AppState>, request: HttpRequest) -> Result<Export, ApiError> {
    let mut query = Query::of(&request)?;
    let format = match query.take("format") {
        Some(name) => Format::named(&name)?,
        None => Format::accepted(&accept(&request)),
    };
    let filter = query.take_filter()?;
    query.finish()?;
    let deadline = RingDeadline::from_now();
    let pending = state.make_visible(deadline).await;
    let scan = state.read(deadline, move |reader| reader.scan(&filter, Order::OldestFirst)).await?;
    let standing = Standing::of(&request, Permission::AuditRead, state.authenticator.clone());
    Ok(Export { state: Arc::clone(&state), scan, format, encoding: Encoding::accepted(&request), pending, standing })
}
