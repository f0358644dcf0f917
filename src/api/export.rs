//! The streamed export of the ring.
//!
//! Reads in steps: between two chunks no lock, no transaction and no place among the readers is held, so that a client who reads
//! slowly delays nobody. What was evicted before it could be read is told. What the reader may have is looked at anew before each chunk.

use std::ops::ControlFlow;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use futures_util::stream;
use uuid::Uuid;

use super::encoding::{Encoder, Encoding};
use super::format::{Format, Now};
use super::json::Pending;
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::Scan;
use crate::auth::Standing;

/// Entries in one step, at most.
const STEP_ENTRIES: u64 = 512;

/// A step ends behind so many bytes: who reads slowly, over many connections, has the agent hold that much for each.
const CHUNK_BYTES: usize = 64 * 1024;

/// Room for a chunk and the entry that it ends behind.
const CHUNK_ROOM: usize = CHUNK_BYTES + 8 * 1024;

/// An export about to be streamed.
pub(super) struct Export {
    pub(super) state: Arc<AppState>,
    pub(super) scan: Scan,
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    pub(super) pending: Pending,
    pub(super) standing: Standing,
}

impl Responder for Export {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, self.format.media_type()));
        self.pending.tell(&mut response);
        self.encoding.tell(&mut response);
        let Self { state, scan, format, encoding, standing, .. } = self;
        let hostname = state.hostname();
        let work = Work { scan, format, encoder: encoding.encoder(), hostname, exported: 0, evicted: 0 };
        let progress = Progress { state, work, standing, begun: false, ended: false };
        response.streaming(stream::try_unfold(progress, Progress::next))
    }
}

/// How far an export has come.
struct Progress {
    state: Arc<AppState>,
    work: Work,
    standing: Standing,
    begun: bool,
    ended: bool,
}

/// What goes to where reading may block, and comes back.
struct Work {
    scan: Scan,
    format: Format,
    encoder: Encoder,
    hostname: String,
    exported: u64,
    evicted: u64,
}

impl Progress {
    /// The next chunk; none after the end.
    async fn next(mut self) -> Result<Option<(web::Bytes, Self)>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        // A reader may take hours over it, and his token may not be good for that long: then the answer breaks off.
        self.standing.check()?;
        let (mut work, is_first, boot_id) = (self.work, !self.begun, self.state.ring.boot_id);
        let (chunk, work) = self
            .state
            .read(RingDeadline::from_now(), move |reader| {
                let mut chunk = Vec::with_capacity(CHUNK_ROOM);
                if is_first {
                    work.format.begin(&mut chunk);
                }
                let Work { scan, format, hostname, exported, .. } = &mut work;
                let step = reader.scan_until(scan, STEP_ENTRIES, |entry| {
                    format.entry(&mut chunk, entry, *exported, hostname);
                    *exported += 1;
                    if chunk.len() < CHUNK_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                work.evicted += step.evicted.iter().sum::<u64>();
                if work.scan.is_done() {
                    work.end(&mut chunk, boot_id);
                }
                let mut chunk = work.encoder.push(chunk);
                if work.scan.is_done() {
                    chunk.extend(work.encoder.finish());
                }
                Ok((chunk, work))
            })
            .await?;
        self.begun = true;
        self.ended = work.scan.is_done();
        self.work = work;
        Ok(Some((chunk.into(), self)))
    }
}

impl Work {
    fn end(&self, chunk: &mut Vec<u8>, boot_id: Uuid) {
        self.format.end(chunk, self.exported, self.evicted, &Now::on(&self.hostname, boot_id));
    }
}
