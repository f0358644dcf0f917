//! One audit entry: what is known of a call, and how it ended.
//!
//! A [`Call`] is built when a request arrives and an [`Entry`] when it is answered; the writer numbers it. Every text in here
//! is bounded and harmless already (see `redact`). [`ServedEntry`] is the entry as the API gives it, borrowed from a stored row.

mod json;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::class::Class;
use crate::auth::{Actor, Permission};
use crate::host::clock::{self, Moment};
use crate::operation::Operation;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A response was made.
    Completed,
    /// The client went away first.
    Aborted,
    /// The handler panicked.
    Panicked,
    /// The agent died between intent and outcome.
    Interrupted,
    /// The request never became one: malformed, or never complete.
    Rejected,
}

impl Outcome {
    /// Every outcome, in the order of their numbers in the ring file.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Aborted, Self::Panicked, Self::Interrupted, Self::Rejected];

    /// The outcome as served.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Panicked => "panicked",
            Self::Interrupted => "interrupted",
            Self::Rejected => "rejected",
        }
    }
}

/// When a call arrived, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Wall clock, milliseconds since 1970 (UTC).
    pub timestamp_ms: i64,
    /// Microseconds since the boot (`CLOCK_BOOTTIME`).
    pub monotonic_us: i64,
    /// Whether the wall clock was synchronised then.
    pub clock_synced: bool,
}

impl Arrival {
    /// Something arrives now.
    pub fn now() -> Self {
        Self::at(Moment::now())
    }

    /// Something arrived at that moment.
    pub fn at(moment: Moment) -> Self {
        let Moment { wall_clock_ms: timestamp_ms, monotonic_us } = moment;
        Self { timestamp_ms, monotonic_us, clock_synced: clock::is_synchronised_at(moment) }
    }

    /// Something that arrived so long before this.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self {
            timestamp_ms: self.timestamp_ms.saturating_sub(us / 1_000),
            monotonic_us: self.monotonic_us.saturating_sub(us),
            ..self
        }
    }
}

/// What is known of a call when it arrives.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived.
    pub arrival: Arrival,
    /// The method, bounded.
    pub method: Cow<'static, str>,
    /// The path as received, without the query, bounded.
    pub path: Arc<str>,
    /// The operation that method and path name.
    pub operation: Option<Operation>,
    /// Who calls.
    pub actor: Arc<Actor>,
    /// The socket's peer.
    pub source_ip: IpAddr,
    /// The trace ID of a W3C `traceparent`.
    pub trace_id: Option<[u8; 16]>,
    /// The `User-Agent`, bounded.
    pub user_agent: Option<String>,
    /// The client that a trusted proxy names.
    pub forwarded_for: Option<IpAddr>,
}

/// A call and how it ended, or several that are alike.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The call; the first of several.
    pub call: Call,
    /// Its retention class.
    pub class: Class,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the response; 0 where none was sent.
    pub response_code: u16,
    /// From arrival to response head, microseconds.
    pub duration_us: u64,
    /// How many calls it stands for: more than one only in a flood of refused ones.
    pub calls: u64,
    /// From the arrival of the first of them to that of the last, microseconds.
    pub span_us: u64,
}

impl Entry {
    /// Whether it only says that someone read the log, as he may.
    pub fn is_reading_of_log(&self) -> bool {
        let permission = self.call.operation.map(|operation| operation.permission);
        self.class == Class::Read && permission == Some(Permission::AuditRead)
    }
}

/// The strictly increasing number that the writer gives an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Seq(pub u64);

/// The ID of an entry: a UUIDv7 (RFC 9562) that carries the class and the `seq`, so that no index is needed to find it.
///
/// 48 bits time in milliseconds, 12 bits tag, 2 bits class, 48 bits seq, 12 bits tag. The tag is random for each run of the
/// agent: a `seq` that was given but lost in a power cut and given again after it yields another ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId(Uuid);

impl EntryId {
    /// Seqs are below this: 48 bits.
    pub const SEQ_END: u64 = 1 << 48;

    /// The ID of the entry with these values; `tag` is that of the run that numbered it, 24 bits.
    pub fn new(timestamp_ms: i64, class: Class, seq: Seq, tag: u32) -> Self {
        let millis = u128::from(u64::try_from(timestamp_ms).unwrap_or(0)) & 0xffff_ffff_ffff;
        let (tag_high, tag_low) = (u128::from(tag >> 12 & 0xfff), u128::from(tag & 0xfff));
        let value = millis << 80
            | 0x7 << 76
            | tag_high << 64
            | 0b10 << 62
            | (class.index() as u128) << 60
            | u128::from(seq.0 % Self::SEQ_END) << 12
            | tag_low;
        Self(Uuid::from_u128(value))
    }

    /// The ID in `text`: hyphenated, in either case. None where no entry can have such an ID.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical_length = uuid::fmt::Hyphenated::LENGTH;
        let id = Uuid::try_parse(text).ok().filter(|id| text.len() == canonical_length && id.get_version_num() == 7)?;
        Self(id).class().map(|_| Self(id))
    }

    /// The class of the entry.
    pub fn class(self) -> Option<Class> {
        Class::ALL.get(usize::try_from(self.0.as_u128() >> 60 & 0b11).ok()?).copied()
    }

    /// The seq of the entry.
    pub fn seq(self) -> Seq {
        Seq(u64::try_from(self.0.as_u128() >> 12 & 0xffff_ffff_ffff).expect("it has 48 bits"))
    }

    /// The ID as text, without allocating.
    pub fn encode(self, buffer: &mut [u8; 36]) -> &str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

/// An entry as served. The same stored row always gives the same bytes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct ServedEntry<'a> {
    /// Unique identifier for the audit entry.
    #[schemars(with = "Uuid")]
    pub id: EntryId,
    /// When the request was processed.
    #[serde(serialize_with = "rfc3339_of_ms")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub timestamp: i64,
    /// Authenticated user (JWT subject); empty for an anonymous call.
    pub user: &'a str,
    /// Roles from the JWT token.
    #[serde(serialize_with = "split_roles")]
    #[schemars(with = "Vec<String>")]
    pub roles: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Request URL path.
    pub path: &'a str,
    /// OpenAPI operation ID; empty where method and path name no operation.
    pub operation_id: &'a str,
    /// Client IP address: the socket's peer.
    pub source_ip: IpAddr,
    /// HTTP response status code; 0 where no response was sent.
    pub response_code: u16,
    /// Request duration in milliseconds.
    pub duration_ms: u64,
    /// The entry's number: strictly increasing over the life of a ring.
    pub seq: Seq,
    /// Retention class.
    pub class: Class,
    /// How the call ended.
    pub outcome: Outcome,
    /// The permission that the operation asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<&'a str>,
    /// The token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<&'a str>,
    /// How the caller was authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<&'a str>,
    /// Trace ID of the request's W3C `traceparent`, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// The request's `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a str>,
    /// The client that a trusted proxy claims to speak for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_for: Option<IpAddr>,
    /// The boot in which the entry was made (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Uuid,
    /// Microseconds from the boot to the call's arrival.
    pub monotonic_us: i64,
    /// Request duration in microseconds.
    pub duration_us: u64,
    /// Whether the clock was synchronised when the call arrived.
    pub clock_synced: bool,
    /// How many refused calls the entry stands for; absent where it is one. What differs between them is empty or left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When the last of them was processed; `timestamp` is when the first was.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339_of_ms")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_timestamp: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn rfc3339_of_ms<S: Serializer>(timestamp_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(clock::rfc3339_into(*timestamp_ms, &mut [0; 24]))
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn optional_rfc3339_of_ms<S: Serializer>(timestamp_ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match timestamp_ms {
        Some(timestamp_ms) => rfc3339_of_ms(timestamp_ms, serializer),
        None => serializer.serialize_none(),
    }
}

/// Roles are stored in one text, a line each; no role holds a line break.
fn split_roles<S: Serializer>(roles: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(roles.split('\n').filter(|role| !role.is_empty()))
}

#[cfg(test)]
impl Entry {
    /// The entry of `GET /` by nobody, from the loopback at the beginning of time: what tests make others of.
    pub(super) fn plain(class: Class) -> Self {
        let call = Call {
            arrival: Arrival { timestamp_ms: 0, monotonic_us: 0, clock_synced: false },
            method: "GET".into(),
            path: "/".into(),
            operation: None,
            actor: Arc::default(),
            source_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            trace_id: None,
            user_agent: None,
            forwarded_for: None,
        };
        Self { call, class, outcome: Outcome::Completed, response_code: 200, duration_us: 0, calls: 1, span_us: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_a_uuid_v7_that_gives_back_class_and_seq(
            timestamp_ms in 0_i64..1 << 47, class in 0_usize..3, seq in 0..EntryId::SEQ_END, tag in 0_u32..1 << 24,
        ) {
            let id = EntryId::new(timestamp_ms, Class::ALL[class], Seq(seq), tag);
            let text = id.encode(&mut [0; 36]).to_owned();
            let uuid = Uuid::parse_str(&text).unwrap();
            prop_assert_eq!(uuid.get_version_num(), 7);
            prop_assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(EntryId::parse(&text), Some(id));
            prop_assert_eq!(id.class(), Some(Class::ALL[class]));
            prop_assert_eq!(id.seq(), Seq(seq));
        }
    }
}
