//! The middleware that makes every call an entry.
//!
//! Wraps every route and the default service. A call's entry is opened before anything is decided, and held in a guard: if the
//! handler's future is dropped because the client has gone, or panics, the guard completes it. What is decided about the call is
//! attached to it as a [`Verdict`]; the API answers by that.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderName, HeaderValue, USER_AGENT};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::class::Class;
use super::entry::{Arrival, Call, Entry, EntryId, Outcome};
use super::redact::{self, bounded};
use super::ring::IntentNumber;
use super::writer::{Deadline, Place, Recorded, StoreError, Writer};
use crate::auth::{Caller, Permission, Refusal, authorize};
use crate::operation::{Operation, Operations};

/// Names the entry of the call that a response answers.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What is decided about a call before its handler runs.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The handler of this operation may run, and no other one's; none: no operation was found, and no handler may run.
    Proceed(Option<&'static str>),
    /// The caller may not do this.
    Refused(Refusal),
    /// The call can't be recorded, so nothing may happen.
    NotRecordable(StoreError),
}

/// What can go wrong with a call whose handler was allowed to run.
#[derive(Clone, Debug)]
pub enum CallFailure {
    /// The handler panicked.
    Panicked,
    /// The handler had no answer after this time, and was given up.
    TimedOut(Duration),
    /// It did not run at all: there are too many calls.
    Refused(Refusal),
    /// The handler is done, but the entry is not on stable storage yet.
    NotStored(StoreError),
}

/// What happens to calls that change nothing while the store fails. Those that change something are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreFailure {
    /// They are served; those that can't be kept in memory until the store works again are counted as dropped.
    Serve,
    /// They are refused.
    Refuse,
}

/// What the middleware works with; each worker has one of its own, so that none waits for another to count who uses it.
#[derive(Clone)]
pub struct Auditing {
    /// Where entries go.
    pub writer: Writer,
    /// What calls can name.
    pub operations: Operations,
    /// What happens to reads while the store fails.
    pub on_store_failure: OnStoreFailure,
    /// The longest that a handler may take.
    pub handler_timeout: Duration,
    /// How a failure is answered; the API's own, so that status codes stay there.
    pub answer: fn(CallFailure) -> HttpResponse,
}

/// The middleware.
pub async fn audit(
    auditing: Rc<Auditing>,
    mut caller: Caller,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let limited = caller.limited.take();
    let (open, verdict) = auditing.open(&request, caller, limited.as_ref()).await;
    if let Some(refusal) = limited {
        // Whatever the call asks for: it is not even looked up.
        return Err(auditing.fail(open, Outcome::Completed, CallFailure::Refused(refusal)).await);
    }
    request.extensions_mut().insert(verdict);

    let mut handled = pin!(AssertUnwindSafe(next.call(request)).catch_unwind());
    // Most have their answer at once, and need no timer.
    let handled = match poll_fn(|context| Poll::Ready(handled.as_mut().poll(context))).await {
        Poll::Ready(handled) => Ok(handled),
        Poll::Pending => timeout(auditing.handler_timeout, handled).await,
    };
    let failure = match handled {
        Ok(Ok(result)) => return auditing.conclude(open, result).await,
        Ok(Err(_)) => CallFailure::Panicked,
        Err(_) => CallFailure::TimedOut(auditing.handler_timeout),
    };
    let outcome = if matches!(failure, CallFailure::Panicked) { Outcome::Panicked } else { Outcome::Aborted };
    Err(auditing.fail(open, outcome, failure).await)
}

impl Auditing {
    /// Opens the entry of a call and decides about the call. A change has its intent on stable storage when this returns.
    async fn open(
        self: &Rc<Self>,
        request: &ServiceRequest,
        caller: Caller,
        limited: Option<&Refusal>,
    ) -> (OpenCall, Verdict) {
        let begun = caller.begun;
        let call = self.call(request, caller);
        let permitted = match limited {
            Some(refusal) => Some(Err(refusal.clone())),
            None => call.operation.map(|operation| authorize(&call.actor, operation.permission)),
        };
        let class = class_of(&call, permitted.as_ref());
        let operation_id = call.operation.map(|operation| operation.id);
        let mut open = OpenCall {
            auditing: Rc::clone(self),
            begun,
            class,
            call: Some(call),
            intent: None,
            place: None,
            demand: Demand::Stored,
        };
        let recordable = self.admit(&mut open).await;
        let always_answers = self.always_answers(&open);
        open.demand = match &recordable {
            Ok(()) if always_answers => Demand::StoredIfPossible,
            Ok(()) => Demand::Stored,
            Err(_) => Demand::Nothing,
        };
        let verdict = match (permitted, recordable) {
            // A refusal changes nothing, whether it can be recorded or not.
            (Some(Err(refusal)), _) => Verdict::Refused(refusal),
            (_, Err(error)) if !always_answers => Verdict::NotRecordable(error),
            _ => Verdict::Proceed(operation_id),
        };
        (open, verdict)
    }

    /// Completes the entry of a call that a handler or a refusal answered, and gives the response its ID.
    async fn conclude(
        &self,
        mut open: OpenCall,
        result: Result<ServiceResponse<impl MessageBody + 'static>, Error>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        match result {
            Ok(response) => {
                let code = response.status().as_u16();
                let (id, stored) = open.complete(Outcome::Completed, code).await;
                let mut response = match stored {
                    Ok(()) => response.map_into_boxed_body(),
                    Err(error) => response.into_response((self.answer)(CallFailure::NotStored(error))),
                };
                name_entry(id, response.response_mut());
                Ok(response)
            }
            Err(error) => {
                let response = error.error_response();
                let (id, stored) = open.complete(Outcome::Completed, response.status().as_u16()).await;
                let response = match stored {
                    Ok(()) => response,
                    Err(error) => (self.answer)(CallFailure::NotStored(error)),
                };
                Err(failed(id, response))
            }
        }
    }

    /// Completes the entry of a call that no handler has answered, and gives the answer.
    async fn fail(&self, mut open: OpenCall, outcome: Outcome, failure: CallFailure) -> Error {
        let response = (self.answer)(failure);
        let (id, stored) = open.complete(outcome, response.status().as_u16()).await;
        failed(id, stored.map_or_else(|error| (self.answer)(CallFailure::NotStored(error)), |()| response))
    }

    /// Takes a place for the entry and stores the intent of a change.
    async fn admit(&self, open: &mut OpenCall) -> Result<(), StoreError> {
        // Nobody waits for a store that is known to fail.
        self.writer.health()?;
        if open.class != Class::Change {
            open.place = self.writer.try_place();
            if open.place.is_some() {
                return Ok(());
            }
        }
        let deadline = Deadline::from_now();
        open.place = Some(self.writer.place(open.class, deadline).await?);
        // It may fail since.
        self.writer.health()?;
        if open.class == Class::Change
            && let Some(call) = open.call.clone()
        {
            let (number, commit) = self.writer.intend(call);
            open.intent = Some(number);
            commit.wait(deadline).await?;
        }
        Ok(())
    }

    /// Whether the handler may run although the store fails: reads if the operator says so. What is public always answers, and
    /// so does the ring itself, because it tells why.
    fn always_answers(&self, open: &OpenCall) -> bool {
        let permission = open.call.as_ref().and_then(|call| call.operation).map(|operation| operation.permission);
        let always = matches!(permission, Some(Permission::Public | Permission::AuditRead));
        open.class != Class::Change && (always || self.on_store_failure == OnStoreFailure::Serve)
    }

    fn call(&self, request: &ServiceRequest, caller: Caller) -> Call {
        let header = |name| request.headers().get(name).map(|value: &HeaderValue| value.as_bytes());
        let (asked, operation) = self.operation(request);
        let path = request.uri().path();
        Call {
            arrival: Arrival::at(caller.came),
            method: match operation {
                Some(operation) => operation.method.as_str().into(),
                None => bounded(request.method().as_str(), redact::METHOD_MAX_BYTES).into(),
            },
            // What many calls ask for is held once.
            path: match asked {
                Some(asked) if **asked == *path => Arc::clone(asked),
                _ => bounded(path, redact::PATH_MAX_BYTES).into(),
            },
            operation,
            actor: caller.actor,
            source_ip: caller.client.peer,
            trace_id: header("traceparent").and_then(redact::trace_id),
            user_agent: header(USER_AGENT.as_str())
                .map(|agent| bounded(&String::from_utf8_lossy(agent), redact::USER_AGENT_MAX_BYTES)),
            forwarded_for: caller.client.forwarded_for,
        }
    }

    /// The operation that a request names, by the path as the router sees it: percent-decoded where that is harmless; and that path,
    /// if it has no parameters. Asks the router only where it has.
    fn operation(&self, request: &ServiceRequest) -> (Option<&Arc<str>>, Option<Operation>) {
        let (path, method) = (request.match_info().as_str(), request.method().as_str());
        if let Some(found) = self.operations.at(path) {
            return (Some(found.path()), found.with(method));
        }
        let pattern = request.resource_map().match_pattern(path);
        (None, pattern.and_then(|pattern| self.operations.at(&pattern)?.with(method)))
    }
}

/// The retention class of a call, known before it runs.
fn class_of(call: &Call, permitted: Option<&Result<(), Refusal>>) -> Class {
    match (call.operation, permitted) {
        (_, Some(Err(_))) => Class::Denied,
        // Nobody in particular may call it as often as he likes: that must not evict what is known of anyone.
        (Some(operation), _) if operation.method.is_safe() && call.actor.is_anonymous() => Class::Denied,
        (Some(operation), _) if operation.method.is_safe() => Class::Read,
        (Some(_), _) => Class::Change,
        (None, _) if call.actor.is_anonymous() => Class::Denied,
        (None, _) => Class::Read,
    }
}

/// What has to be true of an entry before its response leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// In a strict class it is on stable storage.
    Stored,
    /// The same, but where the store fails the response leaves all the same.
    StoredIfPossible,
    /// Nothing: the store is known to fail, and nothing was changed.
    Nothing,
}

/// A call without an outcome yet. Dropped without one, it is recorded as aborted.
struct OpenCall {
    /// One count of references, instead of one for each part of the writer.
    auditing: Rc<Auditing>,
    begun: Instant,
    class: Class,
    call: Option<Call>,
    intent: Option<IntentNumber>,
    place: Option<Place>,
    demand: Demand,
}

impl OpenCall {
    /// Records the outcome. Gives the entry's ID, if there is an entry, and whether it is stored as its class demands.
    async fn complete(&mut self, outcome: Outcome, code: u16) -> (Option<EntryId>, Result<(), StoreError>) {
        let Some(Recorded { id, commit }) = self.record(outcome, code) else { return (None, Ok(())) };
        let stored = match (commit, self.demand) {
            (Some(commit), Demand::Stored) => commit.wait(Deadline::from_now()).await,
            (Some(commit), Demand::StoredIfPossible) => commit.wait(Deadline::from_now()).await.or(Ok(())),
            (Some(_), Demand::Nothing) | (None, _) => Ok(()),
        };
        (Some(id), stored)
    }

    fn record(&mut self, outcome: Outcome, response_code: u16) -> Option<Recorded> {
        let call = self.call.take()?;
        let class = self.class;
        let Some(place) = self.place.take() else {
            self.auditing.writer.drop_call(class);
            return None;
        };
        let duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let entry = Entry { call, class, outcome, response_code, duration_us, calls: 1, span_us: 0 };
        Some(self.auditing.writer.record(entry, self.intent, place))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.record(Outcome::Aborted, 0);
    }
}

fn name_entry(id: Option<EntryId>, response: &mut HttpResponse<BoxBody>) {
    if let Some(id) = id {
        let value = HeaderValue::from_str(id.encode(&mut [0; 36])).expect("a UUID is ASCII");
        response.headers_mut().insert(AUDIT_ID, value);
    }
}

fn failed(id: Option<EntryId>, mut response: HttpResponse) -> Error {
    name_entry(id, &mut response);
    InternalError::from_response("the response says why", response).into()
}
