//! The Journal Export Format (<https://systemd.io/JOURNAL_EXPORT_FORMATS/>), for `systemd-journal-remote(8)`.
//!
//! No stored text has a control character, so each field is one line.

use std::io::Write as _;

use uuid::Uuid;

use crate::audit::{Class, Outcome, ServedEntry};
use crate::host::clock;

/// Marks the entries of the audit among those of the journal (`MESSAGE_ID`).
const MESSAGE_ID: &str = "5b2f1c7e0d6b4a0f9a3de0c4a1b7f26d";

/// Where and when something is written that is no stored entry.
pub(in crate::api) struct Now<'a> {
    /// The node's name.
    pub(in crate::api) hostname: &'a str,
    /// The present boot.
    pub(in crate::api) boot_id: Uuid,
    /// Wall clock, milliseconds since 1970.
    pub(in crate::api) timestamp_ms: i64,
    /// Microseconds since the boot.
    pub(in crate::api) monotonic_us: i64,
}

impl<'a> Now<'a> {
    /// Now, on the node of that name in its present boot.
    pub(in crate::api) fn on(hostname: &'a str, boot_id: Uuid) -> Self {
        Self { hostname, boot_id, timestamp_ms: clock::wall_clock_ms(), monotonic_us: clock::monotonic_us() }
    }
}

/// Writes an entry.
pub(super) fn entry(body: &mut Vec<u8>, entry: &ServedEntry<'_>, hostname: &str) {
    head(body, entry.timestamp, entry.monotonic_us, entry.boot_id, hostname);
    // As syslog has them: 3 error, 4 warning, 5 notice, 6 informational.
    let priority = match (entry.outcome, entry.class) {
        (Outcome::Panicked | Outcome::Interrupted, _) => 3,
        (_, Class::Denied) => 4,
        (_, Class::Change) => 5,
        (_, Class::Read) => 6,
    };
    let user = if entry.user.is_empty() { "nobody" } else { entry.user };
    let (method, path, code, source_ip) = (entry.method, entry.path, entry.response_code, entry.source_ip);
    let mut field = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(body, "{name}={value}").expect("a Vec takes every write");
    };
    field("MESSAGE", &format_args!("{method} {path} {code} by {user} from {source_ip}"));
    field("PRIORITY", &priority);
    field("NODEAUDIT_ID", &entry.id.encode(&mut [0; 36]));
    field("NODEAUDIT_SEQ", &entry.seq.0);
    field("NODEAUDIT_USER", &entry.user);
    for role in entry.roles.split('\n').filter(|role| !role.is_empty()) {
        field("NODEAUDIT_ROLE", &role);
    }
    field("NODEAUDIT_METHOD", &method);
    field("NODEAUDIT_PATH", &path);
    field("NODEAUDIT_OPERATION_ID", &entry.operation_id);
    field("NODEAUDIT_SOURCE_IP", &source_ip);
    field("NODEAUDIT_RESPONSE_CODE", &code);
    field("NODEAUDIT_DURATION_US", &entry.duration_us);
    field("NODEAUDIT_CLASS", &entry.class.as_str());
    field("NODEAUDIT_OUTCOME", &entry.outcome.as_str());
    field("NODEAUDIT_CLOCK_SYNCED", &entry.clock_synced);
    let optional = [
        ("NODEAUDIT_PERMISSION", entry.permission),
        ("NODEAUDIT_TOKEN_ID", entry.token_id),
        ("NODEAUDIT_AUTH_METHOD", entry.auth_method),
        ("NODEAUDIT_TRACE_ID", entry.trace_id.as_deref()),
        ("NODEAUDIT_USER_AGENT", entry.user_agent),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    if let Some(forwarded_for) = entry.forwarded_for {
        field("NODEAUDIT_FORWARDED_FOR", &forwarded_for);
    }
    if let Some(count) = entry.count {
        field("NODEAUDIT_COUNT", &count);
    }
    body.push(b'\n');
}

/// Writes that so many entries are missing; none where it is not known how many.
pub(super) fn gap(body: &mut Vec<u8>, evicted: Option<u64>, now: &Now<'_>) {
    head(body, now.timestamp_ms, now.monotonic_us, now.boot_id, now.hostname);
    let evicted = evicted.map_or_else(|| "unknown".to_owned(), |evicted| evicted.to_string());
    let told = format!(
        "MESSAGE=Entries of the audit are missing that are gone before they could be read: {evicted}\nPRIORITY=4\nNODEAUDIT_GAP={evicted}\n\n"
    );
    body.extend_from_slice(told.as_bytes());
}

fn head(body: &mut Vec<u8>, timestamp_ms: i64, monotonic_us: i64, boot_id: Uuid, hostname: &str) {
    // The journal knows no time before 1970.
    let realtime_us = timestamp_ms.saturating_mul(1_000).max(1);
    let head = format!(
        "__REALTIME_TIMESTAMP={realtime_us}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={}\n_HOSTNAME={hostname}\n\
         SYSLOG_IDENTIFIER=nodeaudit\nMESSAGE_ID={MESSAGE_ID}\n",
        monotonic_us.max(0),
        boot_id.simple(),
    );
    body.extend_from_slice(head.as_bytes());
}
