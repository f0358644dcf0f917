//! The log as it grows: `text/event-stream`.
//!
//! Reads in steps, as an export does, and waits in between for what the writer stores: nothing is held for a reader, however slow. What
//! he may have is looked at anew before each event.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, Responder};
use futures_util::{future, stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::event::{EventId, event, place};
use super::format::Listing;
use super::query::Query;
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::{Class, Cursor, Filter, Gap, Known, Order, Scan, Seq};
use crate::auth::{Permission, Refusal, Standing};
use crate::host::clock;

/// Entries in one step: what a stream has in memory at most.
const STEP_ENTRIES: u64 = 64;

/// The longest that a stream is silent, so that either side notices that the other one has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream begins with: when to come again after it has ended, in milliseconds.
const BEGIN: &[u8] = b"retry: 2000\n\n";

/// Where the ID of the last event stands that a reader has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells proxies that collect an answer before they pass it on (nginx) not to.
const UNBUFFERED: (&str, &str) = ("x-accel-buffering", "no");

/// A stream about to begin.
pub(super) struct EventStream(Follower);

/// How far a stream has come.
struct Follower {
    state: Arc<AppState>,
    filter: Filter,
    standing: Standing,
    /// Where to go on.
    cursor: Cursor,
    /// What is being read, and the newest entry of the ring when that began.
    walk: Option<(Scan, Seq)>,
    /// What was stored when the last walk began; none before the first one.
    seen: Option<Seq>,
    stored: watch::Receiver<Option<Seq>>,
    reloads: watch::Receiver<()>,
    /// The ID that was told last.
    told: Option<EventId>,
    told_at: Instant,
    /// When the stream ends.
    end: Instant,
    is_begun: bool,
    is_ended: bool,
    _place: OwnedSemaphorePermit,
}

/// Why a stream ends.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum End {
    /// The caller may not read any more: the token has expired or was called back.
    Refused { details: String },
    /// It has been open for as long as it may be.
    Time,
    /// The agent stops.
    Stopping,
    /// The ring can't be read now.
    Unreadable { details: String },
}

/// Entries as JSON in one text, and where each ends.
#[derive(Default)]
struct Entries {
    json: Vec<u8>,
    ends: Vec<(usize, Class, Seq)>,
}

impl EventStream {
    /// Takes what a call asks for.
    pub(super) async fn begin(state: Arc<AppState>, request: &HttpRequest, mut query: Query) -> Result<Self, ApiError> {
        let filter = query.take_filter()?;
        let after = query.take_number("after")?.map(Seq);
        let mut cursor = Cursor { after, ..query.take_cursor(after)? };
        query.finish()?;
        if let Some(id) = request.headers().get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
            let id = id.to_str().ok().and_then(EventId::parse);
            let wrong = || ApiError::BadRequest("Last-Event-ID takes the ID of an event of this stream.".to_owned());
            cursor = Cursor::from(id.ok_or_else(wrong)?);
        }
        let full = || ApiError::Unavailable("As many streams are open as may be (server.max_streams).".to_owned());
        let place = state.open_calls.stream().ok_or_else(full)?;
        if cursor.after.is_none() && filter.since.is_none() {
            cursor = Cursor { after: Some(newest(&state).await?), ..cursor };
        }
        let (stored, reloads) = (state.writer.stored(), state.reloader.done());
        let standing = Standing::of(request, Permission::AuditRead, state.authenticator.clone());
        let now = Instant::now();
        Ok(Self(Follower {
            end: now + state.stream_max,
            state,
            filter,
            standing,
            cursor: Cursor { after: cursor.after.or(Some(Seq(0))), ..cursor },
            walk: None,
            seen: None,
            stored,
            reloads,
            told: None,
            told_at: now,
            is_begun: false,
            is_ended: false,
            _place: place,
        }))
    }
}

/// The newest entry of those that are recorded now: what a stream follows that is not told where to begin.
async fn newest(state: &AppState) -> Result<Seq, ApiError> {
    let deadline = RingDeadline::from_now();
    state.make_visible(deadline).await;
    let any = (Filter::default(), Cursor::default());
    state.read(deadline, move |reader| Ok(reader.walk(&any.0, &any.1, Order::OldestFirst)?.newest)).await
}

impl Responder for EventStream {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let events =
            stream::unfold(self.0, |follower| async { follower.next().await.map(|(next, on)| (Ok(next), on)) });
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, Listing::EVENTS))
            .insert_header(UNBUFFERED)
            .streaming::<_, ApiError>(events)
    }
}

impl From<EventId> for Cursor {
    fn from(EventId { epoch, after, known }: EventId) -> Self {
        Self { epoch: Some(epoch), after: Some(after), before: None, known }
    }
}

impl Follower {
    /// What comes next; none after the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.is_ended {
            return None;
        }
        let next = self.events().await.unwrap_or_else(|end| {
            self.is_ended = true;
            let mut last = Vec::new();
            event(&mut last, None, "end", &json(&end));
            last
        });
        self.told_at = Instant::now();
        Some((next.into(), self))
    }

    async fn events(&mut self) -> Result<Vec<u8>, End> {
        loop {
            let expires_at_s = self.standing.check().map_err(refused)?;
            if Instant::now() >= self.end {
                return Err(End::Time);
            }
            if !std::mem::replace(&mut self.is_begun, true) {
                return Ok(BEGIN.to_owned());
            }
            if self.walk.is_some() || self.is_behind()? {
                let events = self.read().await.map_err(|error| End::Unreadable { details: error.details() })?;
                if !events.is_empty() {
                    return Ok(events);
                }
            } else {
                self.wait(expires_at_s).await;
            }
            if self.told_at.elapsed() >= KEEP_ALIVE {
                return Ok(self.sign_of_life());
            }
        }
    }

    /// Whether something was stored that was not looked at.
    fn is_behind(&self) -> Result<bool, End> {
        match *self.stored.borrow() {
            None => Err(End::Stopping),
            stored => Ok(stored > self.seen),
        }
    }

    /// Waits until something is stored, a reload may have changed who may read, or there is something to say or to end.
    async fn wait(&mut self, expires_at_s: Option<i64>) {
        let expiry = expires_at_s.map(|expires_at_s| Instant::now() + until(expires_at_s));
        let deadline = (self.told_at + KEEP_ALIVE).min(self.end);
        let deadline = expiry.map_or(deadline, |expiry| deadline.min(expiry));
        let seen = self.seen;
        let stored = pin!(self.stored.wait_for(|stored| stored.is_none() || *stored > seen));
        let reload = pin!(self.reloads.changed());
        drop(timeout_at(deadline, future::select(stored, reload)).await);
    }

    /// What a silent stream says: where its reader is, if that is news to him.
    fn sign_of_life(&mut self) -> Vec<u8> {
        let mut events = Vec::new();
        match self.id().filter(|id| self.told != Some(*id)) {
            Some(id) => {
                place(&mut events, id);
                self.told = Some(id);
            }
            None => events.extend_from_slice(b":\n\n"),
        }
        events
    }

    /// Where the reader is; none before the first walk.
    fn id(&self) -> Option<EventId> {
        let Cursor { epoch, after, known, .. } = self.cursor;
        Some(EventId { epoch: epoch?, after: after?, known })
    }

    /// Reads a step. May be nothing.
    async fn read(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut events = Vec::new();
        let (mut scan, newest) = match self.walk.take() {
            Some(walk) => walk,
            None => self.walk(&mut events).await?,
        };
        let before = scan.done_up_to();
        let (scan, entries, evicted) = self
            .state
            .read(RingDeadline::from_now(), move |reader| {
                let mut entries = Entries::default();
                let step = reader.scan_step(&mut scan, STEP_ENTRIES, |entry| {
                    entry.write_json(&mut entries.json);
                    entries.ends.push((entries.json.len(), entry.class, entry.seq));
                })?;
                Ok((scan, entries, step.evicted))
            })
            .await?;
        let accounted = [0, 1, 2].map(|class: usize| before[class] + evicted[class]);
        self.cursor.known = Some(Known { up_to: accounted, from: None });
        if let Some(gap) = Gap::widened(None, evicted) {
            self.tell(&mut events, "gap", &json(&gap));
        }
        self.tell_entries(&mut events, &scan, &entries, accounted);
        self.cursor.known = Some(Known { up_to: scan.done_up_to(), from: None });
        if scan.is_done() {
            // Where all was looked at, what did not match need not be looked at again.
            self.cursor.after = self.cursor.after.max(Some(newest));
        } else {
            self.walk = Some((scan, newest));
        }
        Ok(events)
    }

    /// Begins a walk where the reader is, and tells what he has missed.
    async fn walk(&mut self, events: &mut Vec<u8>) -> Result<(Scan, Seq), ApiError> {
        self.seen = *self.stored.borrow_and_update();
        let (filter, cursor) = (self.filter.clone(), self.cursor.clone());
        let walk = self
            .state
            .read(RingDeadline::from_now(), move |reader| reader.walk(&filter, &cursor, Order::OldestFirst))
            .await?;
        self.cursor.epoch = Some(walk.scan.epoch());
        self.cursor.known = Some(Known { up_to: walk.scan.done_up_to(), from: None });
        if let Some(gap) = &walk.gap {
            self.cursor.after = Some(walk.begin);
            self.tell(events, "gap", &json(gap));
        }
        Ok((walk.scan, walk.newest))
    }

    /// Tells entries. Whoever goes away behind one of them comes back with its ID.
    fn tell_entries(&mut self, events: &mut Vec<u8>, scan: &Scan, entries: &Entries, mut accounted: [u64; 3]) {
        let mut begin = 0;
        for (index, &(end, class, seq)) in entries.ends.iter().enumerate() {
            accounted[class.index()] += 1;
            self.cursor.after = Some(seq);
            self.cursor.known = if !scan.is_filtered() {
                Some(Known { up_to: accounted, from: None })
            } else if index + 1 == entries.ends.len() {
                Some(Known { up_to: scan.done_up_to(), from: None })
            } else {
                // How many were passed over before this one is known only at the end of the step.
                None
            };
            self.tell(events, "entry", &entries.json[begin..end]);
            begin = end;
        }
    }

    fn tell(&mut self, events: &mut Vec<u8>, kind: &str, data: &[u8]) {
        self.told = self.id();
        event(events, self.told, kind, data);
    }
}

/// How long it is until then, at least a second: who asks sooner may be told the same again.
fn until(time_s: i64) -> Duration {
    let ms = time_s.saturating_mul(1_000).saturating_sub(clock::wall_clock_ms());
    // Monotonic clocks have no room for the year 292277026596.
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).clamp(Duration::from_secs(1), KEEP_ALIVE)
}

fn json(data: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(data).expect("it is plain data")
}

fn refused(refusal: Refusal) -> End {
    End::Refused { details: ApiError::from(refusal).details() }
}
