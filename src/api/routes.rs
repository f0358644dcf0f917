//! Routes, made from the endpoints.
//!
//! A resource for each path, with all its methods, so that a wrong method is 405 and not 404. Every resource answers by the verdict
//! that `audit` attached to the call, and lets it through only by one for the operation with its method: should router and audit
//! ever disagree about a path, the call is refused.

use std::collections::BTreeMap;
use std::future::ready;
use std::rc::Rc;

use actix_service::ServiceFactory;
use actix_web::body::BoxBody;
use actix_web::dev::{Service as _, ServiceRequest, ServiceResponse};
use actix_web::http::Method as HttpMethod;
use actix_web::{Error, HttpMessage, HttpResponse, Resource, ResponseError, guard, web};
use futures_util::future::Either;

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

fn resource(
    path: &str,
    endpoints: &[Endpoint],
) -> Resource<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
    + use<>,
> {
    let allow = endpoints.iter().map(|endpoint| endpoint.operation.method.as_str()).collect::<Vec<_>>().join(", ");
    let mut resource = web::resource(path).default_service(web::to(move || {
        let allow = allow.clone();
        async { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }
    }));
    for endpoint in endpoints {
        resource = resource.route((endpoint.handler)().guard(guard::Method(http_method(endpoint.operation.method))));
    }
    let endpoints: Rc<[Endpoint]> = endpoints.into();
    // Around all routes of the resource, and without waiting: a service around each would cost every call an allocation.
    resource.wrap_fn(move |request, service| match may_pass(&endpoints, &request) {
        Ok(()) => Either::Left(service.call(request)),
        Err(error) => Either::Right(ready(Err(error.into()))),
    })
}

const fn http_method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::GET,
        Method::Post => HttpMethod::POST,
        Method::Put => HttpMethod::PUT,
    }
}

/// Lets a call through to the handler that the verdict is for, or says why not. What has another method than any of the endpoints
/// reaches no handler.
fn may_pass(endpoints: &[Endpoint], request: &ServiceRequest) -> Result<(), ApiError> {
    let has_method = |endpoint: &&Endpoint| http_method(endpoint.operation.method) == *request.method();
    let Some(endpoint) = endpoints.iter().find(has_method) else { return Ok(()) };
    match request.extensions().get::<Verdict>() {
        Some(Verdict::Proceed(Some(decided_for))) if *decided_for == endpoint.operation.id => {}
        Some(Verdict::Refused(refusal)) => return Err(refusal.clone().into()),
        Some(Verdict::NotRecordable(error)) => return Err(error.clone().into()),
        Some(Verdict::Proceed(_)) | None => {
            return Err(ApiError::Internal("The audit decided about another operation.".to_owned()));
        }
    }
    if endpoint.input.query.is_none() && !request.query_string().is_empty() {
        return Err(ApiError::BadRequest("This operation takes no query parameters.".to_owned()));
    }
    Ok(())
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("No operation has this path.".to_owned()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::audit::StoreError;
    use crate::auth::Refusal;

    /// What a call of an endpoint is told for which this was decided; none where it passes.
    fn told(endpoint: &Endpoint, verdict: Option<Verdict>) -> Option<u16> {
        let request = TestRequest::default().method(http_method(endpoint.operation.method)).to_srv_request();
        if let Some(verdict) = verdict {
            request.extensions_mut().insert(verdict);
        }
        may_pass(&[*endpoint], &request).err().map(|error| error.status_code().as_u16())
    }

    #[test]
    fn a_call_passes_only_by_a_verdict_for_its_own_operation() {
        for endpoint in endpoints() {
            let id = endpoint.operation.id;
            assert_eq!(told(&endpoint, Some(Verdict::Proceed(Some(id)))), None, "{id}");
            assert_eq!(told(&endpoint, Some(Verdict::Proceed(Some("another")))), Some(500), "{id}");
            assert_eq!(told(&endpoint, Some(Verdict::Proceed(None))), Some(500), "{id}: no operation was found");
            assert_eq!(told(&endpoint, None), Some(500), "{id}: the audit was left out");
            let refused = Refusal::Unauthenticated("no token".to_owned());
            assert_eq!(told(&endpoint, Some(Verdict::Refused(refused))), Some(401), "{id}");
            assert_eq!(told(&endpoint, Some(Verdict::NotRecordable(StoreError::Closed))), Some(503), "{id}");
        }
    }
}
