//! Errors as the API answers them: `{"error", "details", "code"}`.
//!
//! The only place that knows status codes. Every error of the modules below turns into an [`ApiError`] here, in a `match`
//! without a wildcard, so that a new error does not compile until someone has picked its status.

use std::{fmt, io};

use actix_web::body::BoxBody;
use actix_web::error::{JsonPayloadError, PathError, PayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::audit::{CallFailure, ReadError, StoreError};
use crate::auth::Refusal;
use crate::host::HostError;
use crate::report;

/// The body of every error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// A description of the error that occurred.
    pub error: String,
    /// Additional details about the error.
    pub details: String,
    /// The error code: the HTTP status.
    pub code: u16,
}

/// Why a call is refused or has failed.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the request can't be understood or names a value that is not allowed.
    BadRequest(String),
    /// 401: no token, or one that is not accepted.
    Unauthorized(String),
    /// 403: the caller lacks this permission.
    Forbidden(String),
    /// 404: there is no such thing.
    NotFound(String),
    /// 405: the path is known, the method is not; `allow` lists those that are.
    MethodNotAllowed {
        /// Value of the `Allow` header.
        allow: String,
    },
    /// 408: the request did not arrive in time.
    RequestTimeout(String),
    /// 413: the body is larger than the limit.
    PayloadTooLarge(String),
    /// 415: the body is not JSON by its content type.
    UnsupportedMediaType(String),
    /// 429: too much came from one caller.
    TooManyRequests {
        /// What there is too much of.
        details: String,
        /// Value of the `Retry-After` header, in seconds.
        retry_after_s: u64,
    },
    /// 500: the agent failed; what exactly stands in the log.
    Internal(String),
    /// 503: not now, or not on this node.
    Unavailable(String),
}

impl ApiError {
    /// What the body says beside the kind of error.
    pub(super) fn details(&self) -> String {
        match self {
            Self::MethodNotAllowed { allow } => format!("This path answers {allow}."),
            Self::BadRequest(details)
            | Self::Unauthorized(details)
            | Self::Forbidden(details)
            | Self::NotFound(details)
            | Self::RequestTimeout(details)
            | Self::PayloadTooLarge(details)
            | Self::UnsupportedMediaType(details)
            | Self::TooManyRequests { details, .. }
            | Self::Internal(details)
            | Self::Unavailable(details) => details.clone(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest(_) => "Invalid request.",
            Self::Unauthorized(_) => "Unauthorized.",
            Self::Forbidden(_) => "Forbidden.",
            Self::NotFound(_) => "Not found.",
            Self::MethodNotAllowed { .. } => "Method not allowed.",
            Self::RequestTimeout(_) => "Request timed out.",
            Self::PayloadTooLarge(_) => "Request body too large.",
            Self::UnsupportedMediaType(_) => "Unsupported media type.",
            Self::TooManyRequests { .. } => "Too many requests.",
            Self::Internal(_) => "Internal error.",
            Self::Unavailable(_) => "Service unavailable.",
        })
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthorized(_) => {
                response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"nodeaudit\"")));
            }
            Self::MethodNotAllowed { allow } => {
                response.insert_header((ALLOW, allow.as_str()));
            }
            Self::TooManyRequests { retry_after_s, .. } => {
                response.insert_header((RETRY_AFTER, *retry_after_s));
            }
            Self::Unavailable(_) => {
                response.insert_header((RETRY_AFTER, HeaderValue::from_static("5")));
            }
            _ => {}
        }
        response.json(ErrorBody { error: self.to_string(), details: self.details(), code: self.status_code().as_u16() })
    }
}

/// What an operation answers with that status, for the API description.
pub(super) fn describe(status: u16) -> &'static str {
    match status {
        304 => "Nothing is new since the `ETag` that `If-None-Match` names; that the log was read is not new.",
        400 => "Invalid request parameters.",
        401 => "Unauthorized - API key required.",
        403 => "Forbidden - Insufficient permissions.",
        404 => "There is no such thing.",
        408 => "The body did not arrive in time.",
        413 => "The body is too large.",
        415 => "The body is not JSON by its content type.",
        429 => "Too much came from one address or user; Retry-After says when to come again.",
        503 => "Not now, or not on this node: the details say why.",
        _ => "Internal server error.",
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated(reason) => Self::Unauthorized(sentence(&reason)),
            Refusal::TooMany { what, retry_after_s } => Self::TooManyRequests {
                details: format!("Too often {what}: come again in {retry_after_s} s."),
                retry_after_s,
            },
            Refusal::Lacks(permission) => {
                Self::Forbidden(format!("The permission {} is required.", permission.as_str()))
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TimedOut | StoreError::Failing(_) | StoreError::NotTaken | StoreError::Closed => {
                Self::Unavailable(format!("Calls can't be recorded now: {error}."))
            }
        }
    }
}

impl From<CallFailure> for ApiError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Panicked => Self::Internal("The handler failed; the log says where.".to_owned()),
            CallFailure::TimedOut(after) => Self::Unavailable(format!(
                "The operation had no answer within {} s and was given up; whether it took effect is not known.",
                after.as_secs()
            )),
            CallFailure::Refused(refusal) => refusal.into(),
            CallFailure::NotStored(error) => {
                Self::Unavailable(format!("The call was handled, but its entry is not on stable storage: {error}."))
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        log::error!("{}", report::chain(&error));
        match error {
            ReadError::Sqlite { .. } | ReadError::Moved { .. } => {
                Self::Unavailable("The audit ring can't be read now; the log says why.".to_owned())
            }
        }
    }
}

impl From<JsonPayloadError> for ApiError {
    fn from(error: JsonPayloadError) -> Self {
        match &error {
            JsonPayloadError::Overflow { limit } | JsonPayloadError::OverflowKnownLength { limit, .. } => {
                Self::PayloadTooLarge(format!("The body is larger than {limit} bytes."))
            }
            JsonPayloadError::ContentType => {
                Self::UnsupportedMediaType("The content type must be application/json.".to_owned())
            }
            JsonPayloadError::Deserialize(reason) => {
                Self::BadRequest(format!("The body is not as described: {reason}."))
            }
            JsonPayloadError::Payload(PayloadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Self::RequestTimeout("The body did not arrive in time.".to_owned())
            }
            _ => Self::BadRequest(format!("The body can't be read: {error}.")),
        }
    }
}

impl From<QueryPayloadError> for ApiError {
    fn from(error: QueryPayloadError) -> Self {
        Self::BadRequest(format!("The query is not as described: {}.", cause(&error)))
    }
}

impl From<PathError> for ApiError {
    fn from(error: PathError) -> Self {
        Self::BadRequest(format!("The path is not as described: {}.", cause(&error)))
    }
}

/// A message of a module as a sentence for callers.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    let end = if message.ends_with('.') { "" } else { "." };
    first.into_iter().chain(characters).chain(end.chars()).collect()
}

/// The innermost cause: what actix puts around it only says that something can't be deserialised.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Invalid { .. } => Self::BadRequest(sentence(&error.to_string())),
            HostError::Unknown { .. } => Self::NotFound(sentence(&error.to_string())),
            HostError::ChangesDisabled | HostError::Unavailable { .. } => {
                Self::Unavailable(sentence(&error.to_string()))
            }
            HostError::Read { .. } | HostError::Write { .. } => Self::Internal(sentence(&error.to_string())),
        }
    }
}
