//! Routes, made from the endpoints.
//!
//! A resource for each path, with all its methods, so that a wrong method is 405 and not 404. Every route answers by the verdict
//! that `audit` attached to the call, and only by one for its own operation: should router and audit ever disagree about a path, the
//! call is refused.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method as HttpMethod;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage, HttpResponse, Resource, ResponseError, guard, web};

use super::endpoint::Endpoint;
use super::{ApiError, audit, health, metrics, node, version};
use crate::audit::{CallFailure, Verdict};
use crate::operation::Method;

/// Every endpoint of the API. A new family is one line here, or in `node`.
pub fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = node::endpoints();
    endpoints.extend(audit::ENDPOINTS);
    endpoints.extend(health::ENDPOINTS);
    endpoints.extend(metrics::ENDPOINTS);
    endpoints.extend(version::ENDPOINTS);
    endpoints
}

/// Mounts every endpoint below `base_path`, and the answers to everything else.
pub fn mount(config: &mut web::ServiceConfig, base_path: &str, max_body_bytes: usize) {
    let mut by_path: BTreeMap<(bool, &str), Vec<Endpoint>> = BTreeMap::new();
    for endpoint in endpoints() {
        let path = endpoint.operation.path;
        // A path without parameters comes before one that could match it too.
        by_path.entry((path.contains('{'), path)).or_default().push(endpoint);
    }
    for ((_, path), endpoints) in by_path {
        config.service(resource(&format!("{base_path}{path}"), &endpoints));
    }
    let json = web::JsonConfig::default().limit(max_body_bytes).error_handler(|error, _| ApiError::from(error).into());
    config
        .app_data(json)
        .app_data(web::QueryConfig::default().error_handler(|error, _| ApiError::from(error).into()))
        .app_data(web::PathConfig::default().error_handler(|error, _| ApiError::from(error).into()))
        .default_service(web::to(not_found));
}

/// How a call is answered whose handler was allowed to run and did not end well.
pub fn answer(failure: CallFailure) -> HttpResponse {
    ApiError::from(failure).error_response()
}

fn resource(path: &str, endpoints: &[Endpoint]) -> Resource {
    let allow = endpoints.iter().map(|endpoint| endpoint.operation.method.as_str()).collect::<Vec<_>>().join(", ");
    let mut resource = web::resource(path).default_service(web::to(move || {
        let allow = allow.clone();
        async { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }
    }));
    for endpoint in endpoints {
        let mut route = (endpoint.handler)().guard(guard::Method(match endpoint.operation.method {
            Method::Get => HttpMethod::GET,
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
        }));
        if endpoint.input.query.is_none() {
            route = route.wrap(from_fn(refuse_query));
        }
        let id = endpoint.operation.id;
        let answer = move |request: ServiceRequest, next: Next<BoxBody>| answer_verdict(id, request, next);
        resource = resource.route(route.wrap(from_fn(answer)));
    }
    resource
}

/// Lets a call through to the handler that the verdict is for, or answers why not.
async fn answer_verdict(
    operation_id: &'static str,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let verdict = request.extensions().get::<Verdict>().cloned();
    match verdict {
        Some(Verdict::Proceed(Some(decided_for))) if decided_for == operation_id => next.call(request).await,
        Some(Verdict::Refused(refusal)) => Err(ApiError::from(refusal).into()),
        Some(Verdict::NotRecordable(error)) => Err(ApiError::from(error).into()),
        Some(Verdict::Proceed(_)) | None => {
            Err(ApiError::Internal("The audit decided about another operation.".to_owned()).into())
        }
    }
}

async fn refuse_query(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.query_string().is_empty() {
        return next.call(request).await;
    }
    Err(ApiError::BadRequest("This operation takes no query parameters.".to_owned()).into())
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("No operation has this path.".to_owned()))
}
