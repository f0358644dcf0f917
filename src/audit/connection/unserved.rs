//! The entries of what no handler serves: requests that the library answers or nobody does, and connections without one.

use std::sync::Arc;
use std::time::Duration;

use super::Origin;
use super::heads::{asked_for, failed_handshake};
use crate::audit::class::Class;
use crate::audit::entry::{Arrival, Call, Entry, Outcome};
use crate::audit::writer::Writer;
use crate::auth::Actor;

/// Why no call comes from a connection.
#[derive(Clone, Copy, Debug)]
pub enum Unserved<'a> {
    /// What it begins with was answered at the door, with that status.
    Answered(&'a [u8], u16),
    /// Its TLS handshake failed, for this reason.
    Handshake(&'a str),
}

/// Records a connection from which no call comes.
pub fn record_unserved(writer: &Writer, origin: &Origin, duration: Duration, unserved: Unserved<'_>) {
    match unserved {
        Unserved::Answered(head, code) => record(writer, origin, duration, asked_for(head), code),
        Unserved::Handshake(why) => record(writer, origin, duration, failed_handshake(why), 0),
    }
}

/// Records what was asked for, method and path, and the status that it was answered with; 0 where it was not.
pub(super) fn record(
    writer: &Writer,
    origin: &Origin,
    duration: Duration,
    (method, path): (String, String),
    response_code: u16,
) {
    let Some(place) = writer.try_place() else {
        writer.drop_call(Class::Denied);
        return;
    };
    let call = Call {
        arrival: Arrival::now().before(duration),
        method: method.into(),
        path: path.into(),
        operation: None,
        actor: origin.actor.as_ref().map_or_else(|| Arc::new(Actor::default()), Arc::clone),
        source_ip: origin.address,
        trace_id: None,
        user_agent: None,
        forwarded_for: None,
    };
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (class, outcome) = (Class::Denied, Outcome::Rejected);
    let entry = Entry { call, class, outcome, response_code, duration_us, calls: 1, span_us: 0 };
    writer.record(entry, None, place);
}
