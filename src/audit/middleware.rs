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

use actix_web::body::BoxBody;
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

/// Names the trace that a call is part of (W3C Trace Context). As a name that is known already: a text would be read anew each time.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
pub fn audit(
    auditing: Rc<Auditing>,
    mut caller: Caller,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> {
    let limited = caller.limited.take();
    let (mut open, permitted) = auditing.open(&request, caller, limited.as_ref());
    // Each connection has room for one of these, and each call moves it: it holds nothing twice.
    async move {
        let recordable = auditing.admit(&mut open).await;
        let verdict = auditing.decide(&mut open, permitted, recordable);
        let handled = if let Some(refusal) = limited {
            // Whatever the call asks for: it is not even looked up.
            Err(CallFailure::Refused(refusal))
        } else {
            request.extensions_mut().insert(verdict);
            handle(next, request, auditing.handler_timeout).await
        };
        let (outcome, answer) = auditing.ended(handled);
        let code = answer.as_ref().map_or_else(HttpResponse::status, ServiceResponse::status).as_u16();
        let (id, stored) = open.complete(outcome, code).await;
        auditing.conclude(id, stored, answer)
    }
}

/// What a handler answered, be it an error.
type Handled = Result<ServiceResponse<BoxBody>, Error>;

/// What is sent: an answer of a handler's, or one in place of it.
type Answer = Result<ServiceResponse<BoxBody>, HttpResponse>;

/// Runs the handler.
async fn handle(
    next: Next<BoxBody>,
    request: ServiceRequest,
    handler_timeout: Duration,
) -> Result<Handled, CallFailure> {
    let mut handled = pin!(AssertUnwindSafe(next.call(request)).catch_unwind());
    // Most have their answer at once, and need no timer.
    let handled = match poll_fn(|context| Poll::Ready(handled.as_mut().poll(context))).await {
        Poll::Ready(handled) => Ok(handled),
        Poll::Pending => timeout(handler_timeout, handled).await,
    };
    match handled {
        Ok(Ok(handled)) => Ok(handled),
        Ok(Err(_)) => Err(CallFailure::Panicked),
        Err(_) => Err(CallFailure::TimedOut(handler_timeout)),
    }
}

impl CallFailure {
    /// How the call ends for its entry.
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Panicked => Outcome::Panicked,
            Self::TimedOut(_) => Outcome::Aborted,
            Self::Refused(_) | Self::NotStored(_) => Outcome::Completed,
        }
    }
}

impl Auditing {
    /// Opens the entry of a call, and says whether the caller may do what it asks for; none: it names no operation.
    fn open(
        self: &Rc<Self>,
        request: &ServiceRequest,
        caller: Caller,
        limited: Option<&Refusal>,
    ) -> (OpenCall, Option<Result<(), Refusal>>) {
        let begun = caller.begun;
        let call = self.call(request, caller);
        let permitted = match limited {
            Some(refusal) => Some(Err(refusal.clone())),
            None => call.operation.map(|operation| authorize(&call.actor, operation.permission)),
        };
        let open = OpenCall {
            auditing: Rc::clone(self),
            begun,
            class: class_of(&call, permitted.as_ref()),
            call: Some(call),
            intent: None,
            place: None,
            demand: Demand::Stored,
        };
        (open, permitted)
    }

    /// Takes a place for the entry. A change has its intent on stable storage when this returns.
    async fn admit(&self, open: &mut OpenCall) -> Result<(), StoreError> {
        // Nobody waits for a store that is known to fail. The entry is kept all the same where there is room, until it works again.
        if let Err(error) = self.writer.health() {
            open.place = self.writer.try_place();
            return Err(error);
        }
        if open.class != Class::Change {
            open.place = self.writer.try_place();
            if open.place.is_some() {
                return Ok(());
            }
        }
        Box::pin(self.admit_in_turn(open)).await
    }

    /// The same for a call that has to wait.
    async fn admit_in_turn(&self, open: &mut OpenCall) -> Result<(), StoreError> {
        let deadline = Deadline::from_now();
        open.place = Some(self.writer.place(open.class, deadline).await?);
        // It may have come to fail meanwhile.
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

    /// Decides about a call that may be permitted and recordable.
    fn decide(
        &self,
        open: &mut OpenCall,
        permitted: Option<Result<(), Refusal>>,
        recordable: Result<(), StoreError>,
    ) -> Verdict {
        let always_answers = self.always_answers(open);
        open.demand = match &recordable {
            Ok(()) if always_answers => Demand::StoredIfPossible,
            Ok(()) => Demand::Stored,
            Err(_) => Demand::Nothing,
        };
        match (permitted, recordable) {
            // A refusal changes nothing, whether it can be recorded or not.
            (Some(Err(refusal)), _) => Verdict::Refused(refusal),
            (_, Err(error)) if !always_answers => Verdict::NotRecordable(error),
            _ => Verdict::Proceed(open.operation().map(|operation| operation.id)),
        }
    }

    /// How a call ended, and its answer.
    fn ended(&self, handled: Result<Handled, CallFailure>) -> (Outcome, Answer) {
        match handled {
            Ok(Ok(response)) => (Outcome::Completed, Ok(response)),
            Ok(Err(error)) => (Outcome::Completed, Err(error.error_response())),
            Err(failure) => (failure.outcome(), Err((self.answer)(failure))),
        }
    }

    /// The answer of a call whose entry is complete, with the ID of that; another one if it is not stored as it has to be.
    fn conclude(&self, id: Option<EntryId>, stored: Result<(), StoreError>, answer: Answer) -> Handled {
        let not_stored = |error| (self.answer)(CallFailure::NotStored(error));
        match answer {
            Ok(response) => {
                let mut response = match stored {
                    Ok(()) => response,
                    Err(error) => response.into_response(not_stored(error)),
                };
                name_entry(id, response.response_mut());
                Ok(response)
            }
            Err(response) => {
                let mut response = stored.map_or_else(not_stored, |()| response);
                name_entry(id, &mut response);
                Err(InternalError::from_response("the response says why", response).into())
            }
        }
    }

    /// Whether the handler may run although the store fails: reads if the operator says so. What is public always answers, and
    /// so does the ring itself, because it tells why.
    fn always_answers(&self, open: &OpenCall) -> bool {
        let permission = open.operation().map(|operation| operation.permission);
        let always = matches!(permission, Some(Permission::Public | Permission::AuditRead));
        open.class != Class::Change && (always || self.on_store_failure == OnStoreFailure::Serve)
    }

    fn call(&self, request: &ServiceRequest, caller: Caller) -> Call {
        let header = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
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
            trace_id: header(TRACEPARENT).and_then(redact::trace_id),
            user_agent: header(USER_AGENT)
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
    /// What the call asks for, as long as it is open.
    fn operation(&self) -> Option<&Operation> {
        self.call.as_ref()?.operation.as_ref()
    }

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
