//! `/metrics`: counters in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Labels are operations, classes and codes: nothing that a caller can make up.

use std::fmt::{Display, Write as _};

use actix_web::body::BoxBody;
use actix_web::{HttpRequest, HttpResponse, Responder, web};

use super::encoding::Encoding;
use super::endpoint::{Endpoint, Input, Success, schema_of};
use super::open_calls::OpenCounts;
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::metrics::{BUCKETS_US, Histogram};
use crate::audit::{AuditStatus, Class, ClassStatus, Counts};
use crate::auth::Permission;
use crate::operation::{Method, Operation};

/// The endpoints of `/metrics`.
pub(super) const ENDPOINTS: [Endpoint; 1] = [METRICS];

const METRICS: Endpoint = Endpoint {
    operation: Operation {
        id: "GetMetrics",
        method: Method::Get,
        path: "/metrics",
        permission: Permission::HealthRead,
        summary: "Counters of the agent and its ring, for Prometheus.",
    },
    input: Input::NONE,
    success: Success { status: 200, description: "The counters.", content: &[("text/plain", schema_of::<String>)] },
    errors: &[],
    handler: || web::to(metrics),
};

async fn metrics(state: web::Data<AppState>) -> Result<Exposition, ApiError> {
    let mut text = Exposition(String::with_capacity(16 * 1024));
    text.agent(&state.writer.metrics(), state.writer.pending(), state.writer.health().is_ok());
    text.open_calls(state.open_calls.counts());
    let (writer, ring) = (state.writer.clone(), state.ring.clone());
    // What can't be read is left out: a ring that fails must not take the rest with it.
    let read = state.read(RingDeadline::from_now(), move |reader| AuditStatus::gather(&ring, reader, &writer)).await;
    if let Ok(status) = read {
        text.ring(&status);
    }
    Ok(text)
}

/// Metrics as text.
struct Exposition(String);

impl Exposition {
    fn agent(&mut self, counts: &Counts, pending: u64, is_healthy: bool) {
        self.family("nodeaudit_build_info", "gauge", "The agent that runs; always 1.");
        let (version, architecture) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        self.sample(format_args!("nodeaudit_build_info{{version=\"{version}\",architecture=\"{architecture}\"}}"), 1);
        self.family("nodeaudit_calls_total", "counter", "Calls since the start, by operation and code.");
        for (operation, codes) in &counts.calls {
            for (hundreds, calls) in codes.iter().enumerate().filter(|(_, calls)| **calls > 0) {
                let code = if hundreds == 0 { "none".to_owned() } else { format!("{hundreds}xx") };
                let labels = format_args!("nodeaudit_calls_total{{operation=\"{operation}\",code=\"{code}\"}}");
                self.sample(labels, calls);
            }
        }
        self.family(
            "nodeaudit_call_duration_seconds",
            "histogram",
            "From the arrival of a call to the head of its response.",
        );
        for (class, histogram) in Class::ALL.into_iter().zip(&counts.durations) {
            self.histogram("nodeaudit_call_duration_seconds", &format!("class=\"{}\",", class.as_str()), histogram);
        }
        self.family("nodeaudit_commit_duration_seconds", "histogram", "Transactions that stored entries.");
        self.histogram("nodeaudit_commit_duration_seconds", "", &counts.commits);
        self.single("nodeaudit_queued_records", "gauge", "Records that are not on stable storage yet.", pending);
        let healthy = u8::from(is_healthy);
        self.single("nodeaudit_store_healthy", "gauge", "1 while entries can be stored.", healthy);
    }

    fn open_calls(&mut self, open: OpenCounts) {
        let OpenCounts { streams, max_streams, waiting_polls } = open;
        self.single("nodeaudit_open_streams", "gauge", "Streams of the log that are open.", streams);
        self.single("nodeaudit_open_streams_max", "gauge", "Streams that may be open at a time.", max_streams);
        self.single("nodeaudit_waiting_polls", "gauge", "Polls of the log that wait for news.", waiting_polls);
    }

    fn ring(&mut self, status: &AuditStatus) {
        type Family = (&'static str, &'static str, &'static str, fn(&ClassStatus) -> u64);
        let families: [Family; 9] = [
            ("nodeaudit_entries", "gauge", "Entries held.", |class| class.entries),
            ("nodeaudit_evicted_entries_total", "counter", "Entries that aged out.", |class| class.evicted),
            ("nodeaudit_dropped_calls_total", "counter", "Calls that could not be recorded.", |class| class.dropped),
            ("nodeaudit_coalesced_calls_total", "counter", "Calls counted in the entry of another one.", |class| {
                class.coalesced
            }),
            ("nodeaudit_interrupted_changes_total", "counter", "Changes whose outcome is unknown.", |class| {
                class.interrupted
            }),
            ("nodeaudit_lost_entries_total", "counter", "Entries of rings that were damaged or missing.", |class| {
                class.lost
            }),
            ("nodeaudit_horizon_seconds", "gauge", "Age of the oldest entry held.", |class| {
                class.horizon_seconds.unwrap_or(0)
            }),
            (
                "nodeaudit_entries_per_hour",
                "gauge",
                "Entries stored in an hour, at the rate of the last one.",
                |class| class.entries_per_hour.unwrap_or(0),
            ),
            (
                "nodeaudit_retention_seconds",
                "gauge",
                "How long an entry is held at that rate; 0 where none come.",
                |class| class.retention_seconds.unwrap_or(0),
            ),
        ];
        for (name, kind, help, of) in families {
            self.family(name, kind, help);
            for class in &status.classes {
                self.sample(format_args!("{name}{{class=\"{}\"}}", class.class.as_str()), of(class));
            }
        }
        self.single("nodeaudit_entries_max", "gauge", "Entries that the ring holds at most.", status.max_entries);
        self.single("nodeaudit_ring_bytes", "gauge", "Bytes of the ring's files.", status.bytes);
        self.single("nodeaudit_ring_bytes_max", "gauge", "Bytes that they have at most.", status.max_bytes);
        let written = status.written_bytes;
        self.single("nodeaudit_written_bytes_total", "counter", "Bytes that the agent has had written.", written);
        let (first, last) = (status.first_seq.map_or(0, |seq| seq.0), status.last_seq.map_or(0, |seq| seq.0));
        self.single("nodeaudit_oldest_seq", "gauge", "Seq of the oldest entry held.", first);
        self.single("nodeaudit_newest_seq", "gauge", "Seq of the newest entry held.", last);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String does not fail");
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        writeln!(self.0, "{name} {value}").expect("writing to a String does not fail");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    /// The samples of a histogram; `labels` has a comma behind each.
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in BUCKETS_US.iter().zip(histogram.buckets) {
            below += count;
            self.sample(format_args!("{name}_bucket{{{labels}le=\"{}\"}}", seconds(*bound)), below);
        }
        self.sample(format_args!("{name}_bucket{{{labels}le=\"+Inf\"}}"), histogram.count);
        let labels = labels.trim_end_matches(',');
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.sample(format_args!("{name}_sum{labels}"), seconds(histogram.sum_us));
        self.sample(format_args!("{name}_count{labels}"), histogram.count);
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> impl Display {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Responder for Exposition {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.content_type("text/plain; version=0.0.4; charset=utf-8");
        let body = Encoding::accepted(request).whole(self.0.into_bytes(), &mut response);
        response.body(body)
    }
}
