//! The streamed export of the ring.
//!
//! Reads in steps: between two chunks no lock, no transaction and no place among the readers is held, so that a client who reads
//! slowly delays nobody. What was evicted before it could be read is told.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use futures_util::stream;
use schemars::JsonSchema;

use super::encoding::{Encoder, Encoding};
use super::json::{Pending, write};
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::{Scan, ScanStep};

/// Entries in one step.
const STEP_ENTRIES: u64 = 512;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Format {
    /// One object: `items`, then `total_items` and `evicted_items`.
    Json,
    /// One entry a line; a last line `{"gap": ...}` where entries were evicted meanwhile.
    Ndjson,
}

impl Format {
    /// The format with that name.
    pub(super) fn named(name: &str) -> Result<Self, ApiError> {
        match name {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            _ => Err(ApiError::BadRequest("format takes json or ndjson.".to_owned())),
        }
    }

    /// The format that an `Accept` header names; JSON where it names none of ours.
    pub(super) fn accepted(accept: &str) -> Self {
        let mut types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        let is_ndjson = |media: &str| ["application/x-ndjson", "application/ndjson"].contains(&media);
        match types.find(|media| is_ndjson(media) || *media == "application/json") {
            Some(media) if is_ndjson(media) => Self::Ndjson,
            _ => Self::Json,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// An export about to be streamed.
pub(super) struct Export {
    pub(super) state: Arc<AppState>,
    pub(super) scan: Scan,
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    pub(super) pending: Pending,
}

impl Responder for Export {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, self.format.media_type()));
        self.pending.tell(&mut response);
        self.encoding.tell(&mut response);
        let Self { state, scan, format, encoding, .. } = self;
        let progress = Progress {
            state,
            scan,
            format,
            encoder: encoding.encoder(),
            begun: false,
            exported: 0,
            evicted: 0,
            ended: false,
        };
        response.streaming(stream::try_unfold(progress, Progress::next))
    }
}

/// How far an export has come.
struct Progress {
    state: Arc<AppState>,
    scan: Scan,
    format: Format,
    encoder: Encoder,
    begun: bool,
    exported: u64,
    evicted: u64,
    ended: bool,
}

impl Progress {
    /// The next chunk; none after the end.
    async fn next(mut self) -> Result<Option<(web::Bytes, Self)>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        let (format, mut scan, is_first) = (self.format, self.scan, !self.begun);
        let mut follows = self.exported > 0;
        let (mut chunk, step, scan) = self
            .state
            .read(RingDeadline::from_now(), move |reader| {
                let mut chunk = Vec::with_capacity(64 * 1024);
                if is_first && format == Format::Json {
                    chunk.extend_from_slice(b"{\"items\":[");
                }
                let step = reader.scan_step(&mut scan, STEP_ENTRIES, |entry| {
                    if format == Format::Json && std::mem::replace(&mut follows, true) {
                        chunk.push(b',');
                    }
                    write(&mut chunk, entry);
                    if format == Format::Ndjson {
                        chunk.push(b'\n');
                    }
                })?;
                Ok((chunk, step, scan))
            })
            .await?;
        let ScanStep { entries, evicted } = step;
        self.begun = true;
        self.exported += entries;
        self.evicted += evicted.iter().sum::<u64>();
        self.ended = scan.is_done();
        self.scan = scan;
        if self.ended {
            self.finish(&mut chunk);
        }
        let mut chunk = self.encoder.push(chunk);
        if self.ended {
            chunk.extend(self.encoder.finish());
        }
        Ok(Some((chunk.into(), self)))
    }

    fn finish(&self, chunk: &mut Vec<u8>) {
        let Self { exported, evicted, .. } = self;
        let end = match self.format {
            Format::Json => format!("],\"total_items\":{exported},\"evicted_items\":{evicted}}}"),
            Format::Ndjson if *evicted > 0 => format!("{{\"gap\":{{\"evicted_items\":{evicted}}}}}\n"),
            Format::Ndjson => return,
        };
        chunk.extend_from_slice(end.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_default_and_ndjson_comes_when_it_is_asked_for() {
        for accept in ["", "*/*", "application/json", "text/html, application/json;q=0.9, application/x-ndjson"] {
            assert_eq!(Format::accepted(accept), Format::Json, "{accept}");
        }
        for accept in ["application/x-ndjson", "application/x-ndjson;q=0.5, */*", "application/ndjson"] {
            assert_eq!(Format::accepted(accept), Format::Ndjson, "{accept}");
        }
    }
}
