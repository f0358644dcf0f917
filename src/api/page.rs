//! A page of the log: which one is asked for, how it is read, and where the others are.
//!
//! A page by `offset` is what the contract has. It moves with every call, so its links lead to pages that don't: each begins
//! where the last one ended, by `seq`, and keeps to what the ring held when the first one was made.

use actix_web::body::BoxBody;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, LINK};
use actix_web::{HttpRequest, HttpResponse, Responder};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::encoding::Encoding;
use super::format::{Format, Now};
use super::freshness::{News, Patience};
use super::json::Pending;
use super::links::Links;
use super::query::Query;
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::{Cursor, Filter, Gap, Known, Order, Seq, ServedEntry, Walk};

/// Entries that a step skips.
const STEP_ENTRIES: u64 = 512;

/// The ring that a page is of.
const AUDIT_EPOCH: HeaderName = HeaderName::from_static("audit-epoch");

/// The `seq` of the newest entry that a list newest first can have: the newest one when its first page was made.
const AUDIT_AS_OF: HeaderName = HeaderName::from_static("audit-as-of");

/// How many entries there are in all, where the page says so.
const AUDIT_TOTAL_ITEMS: HeaderName = HeaderName::from_static("audit-total-items");

/// Whether there is something to read behind a page by a cursor.
const AUDIT_MORE: HeaderName = HeaderName::from_static("audit-more");

/// What should be in the page and is not there any more, as JSON.
const AUDIT_GAP: HeaderName = HeaderName::from_static("audit-gap");

/// Which page of which entries.
#[derive(Debug)]
pub(super) struct Page {
    filter: Filter,
    format: Format,
    limit: u64,
    offset: u64,
    place: Place,
}

/// Where a page begins.
#[derive(Debug)]
enum Place {
    /// Where `offset` says, counted from the newest entry.
    Offset,
    /// Below a seq, newest first. The whole list ends with `as_of`.
    Below { as_of: Seq, cursor: Cursor },
    /// Just above a seq, newest first.
    Above { as_of: Seq, cursor: Cursor },
    /// Behind a seq, oldest first.
    Behind(Cursor),
}

/// A page as it was read.
pub(super) struct ReadPage {
    body: Vec<u8>,
    format: Format,
    epoch: Uuid,
    as_of: Option<Seq>,
    total: Option<u64>,
    more: Option<bool>,
    gap: Option<Gap>,
    links: Links,
    pending: Pending,
}

/// Where to read on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditCursor")]
pub(super) struct NextCursor {
    /// The ring that this is a place in.
    epoch: Uuid,
    /// The value of `after` for what comes next, in a list that is oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Seq>,
    /// The value of `before` for what comes next, in a list that is newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Seq>,
    /// The value of `known` for what comes next: what is accounted for in each class.
    known: String,
    /// Whether there is something to read now.
    more: bool,
}

/// What of a walk makes a page.
struct Part {
    entries: Vec<Vec<u8>>,
    seqs: Vec<Seq>,
    walk: Walk,
    evicted: [u64; 3],
}

impl Page {
    /// Takes the page that a query asks for.
    pub(super) fn take(query: &mut Query, format: Format) -> Result<Self, ApiError> {
        let limit = query.take_limit()?;
        let filter = query.take_filter()?;
        let offset = query.take_number("offset")?.unwrap_or(0);
        let mut seq = |name| query.take_number(name).map(|number| number.map(Seq));
        let (as_of, after, before) = (seq("as_of")?, seq("after")?, seq("before")?);
        let cursor = Cursor { after, before, ..query.take_cursor()? };
        // Above every seq that is given.
        let top = |seq: Option<Seq>| seq.map_or(u64::MAX >> 1, |Seq(seq)| seq + 1);
        let below = top(as_of).min(before.map_or(u64::MAX >> 1, |Seq(before)| before));
        let bounded = Cursor { before: Some(Seq(below)), ..cursor.clone() };
        let place = match (as_of, after, before) {
            (None, None, None) => Place::Offset,
            (None, Some(_), _) => Place::Behind(cursor),
            (Some(as_of), Some(_), _) => Place::Above { as_of, cursor: bounded },
            (as_of, None, _) => Place::Below { as_of: as_of.unwrap_or(Seq(below.saturating_sub(1))), cursor: bounded },
        };
        Ok(Self { filter, format, limit, offset, place })
    }

    /// Whether it changes by news alone, and not as time goes by.
    pub(super) fn is_told_by_news(&self) -> bool {
        let moments = [self.filter.since, self.filter.until];
        !moments.into_iter().flatten().any(|moment| moment.is_relative)
    }

    /// Reads it. A page behind a cursor that has nothing is waited for.
    pub(super) async fn read(self, state: &AppState, patience: Patience) -> Result<ReadPage, ApiError> {
        let list = List::of(&self, state);
        if let Place::Behind(cursor) = self.place {
            let (part, pending) = list.part_when_new(state, cursor, self.offset, patience).await?;
            return Ok(list.behind(part, pending));
        }
        let deadline = RingDeadline::from_now();
        let pending = state.make_visible(deadline).await;
        let Self { offset, place, .. } = self;
        match place {
            Place::Offset | Place::Behind(_) => list.by_offset(state, deadline, pending, offset).await,
            Place::Below { as_of, cursor } => {
                let is_first = cursor.before == Some(Seq(as_of.0 + 1));
                let part = list.part(state, cursor, offset, Order::NewestFirst).await?;
                Ok(list.below(part, as_of, is_first, pending))
            }
            Place::Above { as_of, cursor } => {
                let mut part = list.part(state, cursor, offset, Order::OldestFirst).await?;
                part.entries.reverse();
                part.seqs.reverse();
                Ok(list.above(part, as_of, pending))
            }
        }
    }
}

/// What all pages of a list have in common.
#[derive(Clone)]
struct List {
    filter: Filter,
    format: Format,
    limit: u64,
    hostname: String,
    boot_id: Uuid,
}

/// Entries of a page by `offset`, one behind the other.
struct Items {
    format: Format,
    hostname: String,
    body: Vec<u8>,
    /// How many, the first one, the last one.
    count: u64,
    ends: Option<(Seq, Seq)>,
}

impl Items {
    fn push(&mut self, entry: &ServedEntry<'_>) {
        self.format.entry(&mut self.body, entry, self.count, &self.hostname);
        self.count += 1;
        self.ends = Some((self.ends.map_or(entry.seq, |(first, _)| first), entry.seq));
    }
}

impl List {
    fn of(page: &Page, state: &AppState) -> Self {
        let Page { filter, format, limit, .. } = page;
        // Read where it is written.
        let hostname = if *format == Format::Journal { state.hostname() } else { String::new() };
        Self { filter: filter.clone(), format: *format, limit: *limit, hostname, boot_id: state.ring.boot_id }
    }

    async fn by_offset(
        self,
        state: &AppState,
        deadline: RingDeadline,
        pending: Pending,
        offset: u64,
    ) -> Result<ReadPage, ApiError> {
        let Self { filter, format, limit, hostname, .. } = self.clone();
        let (mut items, mut search) = state
            .read(deadline, move |reader| {
                let body = Vec::with_capacity(limit.min(100) as usize * 512);
                let mut items = Items { format, hostname, body, count: 0, ends: None };
                let search = reader.search(&filter, limit, offset, |entry| items.push(entry))?;
                Ok((items, search))
            })
            .await?;
        // Others have their turn between two steps, and a caller who goes away ends it.
        while !search.is_done() {
            (items, search) = state
                .read(RingDeadline::from_now(), move |reader| {
                    reader.search_step(&mut search, |entry| items.push(entry))?;
                    Ok((items, search))
                })
                .await?;
        }
        let total = search.total;
        let mut body = Vec::with_capacity(items.body.len() + 64);
        if self.format == Format::Json {
            body.extend_from_slice(format!("{{\"total_items\":{total},\"items\":[").as_bytes());
            body.extend_from_slice(&items.body);
            body.extend_from_slice(b"]}");
        } else {
            self.format.begin(&mut body);
            body.extend_from_slice(&items.body);
        }
        let (list, epoch, known) = (&self, search.epoch(), search.known());
        let mut links = Links::default();
        if let (Some(as_of), Some((first, last))) = (search.as_of, items.ends) {
            if search.has_older() {
                links.add("next", list.query(&[("as_of", as_of), ("before", last)], epoch, Some(known)));
            }
            if offset > 0 {
                links.add("prev", list.query(&[("as_of", as_of), ("after", first)], epoch, None));
            }
            links.add("first", list.query(&[("as_of", as_of)], epoch, None));
        }
        let (format, as_of) = (self.format, search.as_of);
        Ok(ReadPage { body, format, epoch, as_of, total: Some(total), more: None, gap: None, links, pending })
    }

    /// Reads on; where there is nothing, when something comes that is more than another reading of the log, or patience ends.
    async fn part_when_new(
        &self,
        state: &AppState,
        cursor: Cursor,
        offset: u64,
        patience: Patience,
    ) -> Result<(Part, Pending), ApiError> {
        let mut seen = cursor.after.unwrap_or(Seq(0));
        loop {
            let news = state.writer.news();
            let is_over = news <= seen && patience.news_after(state, seen).await == News::None;
            let pending = state.make_visible(RingDeadline::from_now()).await;
            let part = self.part(state, cursor.clone(), offset, Order::OldestFirst).await?;
            if is_over || !patience.is_some() || !part.seqs.is_empty() || part.walk.gap.is_some() {
                return Ok((part, pending));
            }
            seen = news.max(seen);
        }
    }

    /// Reads on behind so many entries until the page is full or all is read.
    async fn part(&self, state: &AppState, cursor: Cursor, offset: u64, order: Order) -> Result<Part, ApiError> {
        let (filter, format, limit) = (self.filter.clone(), self.format, self.limit);
        let walk = state.read(RingDeadline::from_now(), move |reader| reader.walk(&filter, &cursor, order)).await?;
        let mut skip = offset;
        let mut part = Part { entries: Vec::new(), seqs: Vec::new(), walk, evicted: [0; 3] };
        while (part.seqs.len() as u64) < limit && !part.walk.scan.is_done() {
            let hostname = self.hostname.clone();
            (part, skip) = state
                .read(RingDeadline::from_now(), move |reader| {
                    let Part { entries, seqs, walk, .. } = &mut part;
                    let left = if skip > 0 { skip.min(STEP_ENTRIES) } else { limit - seqs.len() as u64 };
                    let step = reader.scan_step(&mut walk.scan, left, |entry| {
                        if skip > 0 {
                            skip -= 1;
                            return;
                        }
                        let mut body = Vec::with_capacity(512);
                        format.entry(&mut body, entry, 0, &hostname);
                        entries.push(body);
                        seqs.push(entry.seq);
                    })?;
                    part.evicted = [0, 1, 2].map(|class: usize| part.evicted[class] + step.evicted[class]);
                    Ok((part, skip))
                })
                .await?;
        }
        Ok(part)
    }

    fn behind(&self, part: Part, pending: Pending) -> ReadPage {
        let (scan, newest) = (&part.walk.scan, part.walk.newest);
        let more = !scan.is_done();
        let last = part.seqs.last().copied();
        // Where all was looked at, what did not match need not be looked at again.
        let after = if more { last.unwrap_or(Seq(0)) } else { last.map_or(newest, |last| last.max(newest)) };
        let (epoch, known) = (scan.epoch(), Known { up_to: scan.done_up_to(), from: None });
        let mut links = Links::default();
        links.add("next", self.query(&[("after", after)], epoch, Some(known)));
        let next = NextCursor { epoch, after: Some(after), before: None, known: known.to_text(), more };
        self.page(part, &next, None, links, pending)
    }

    fn below(&self, part: Part, as_of: Seq, is_first: bool, pending: Pending) -> ReadPage {
        let scan = &part.walk.scan;
        let (epoch, more) = (scan.epoch(), !scan.is_done());
        let known = Known { up_to: scan.done_up_to(), from: Some(scan.done_from()) };
        let before = part.seqs.last().copied().unwrap_or(as_of);
        let mut links = Links::default();
        if more {
            links.add("next", self.query(&[("as_of", as_of), ("before", before)], epoch, Some(known)));
        }
        if let Some(first) = part.seqs.first().copied().filter(|_| !is_first) {
            links.add("prev", self.query(&[("as_of", as_of), ("after", first)], epoch, None));
        }
        links.add("first", self.query(&[("as_of", as_of)], epoch, None));
        let next = NextCursor { epoch, after: None, before: Some(before), known: known.to_text(), more };
        self.page(part, &next, Some(as_of), links, pending)
    }

    fn above(&self, part: Part, as_of: Seq, pending: Pending) -> ReadPage {
        let epoch = part.walk.scan.epoch();
        // What is evicted below counts from here on.
        let known = Known { up_to: part.walk.evicted, from: None };
        let before = part.seqs.last().copied().unwrap_or(Seq(as_of.0 + 1));
        let mut links = Links::default();
        links.add("next", self.query(&[("as_of", as_of), ("before", before)], epoch, Some(known)));
        if let Some(first) = part.seqs.first().copied().filter(|_| !part.walk.scan.is_done()) {
            links.add("prev", self.query(&[("as_of", as_of), ("after", first)], epoch, None));
        }
        links.add("first", self.query(&[("as_of", as_of)], epoch, None));
        let next = NextCursor { epoch, after: None, before: Some(before), known: known.to_text(), more: true };
        self.page(part, &next, Some(as_of), links, pending)
    }

    /// The page that a part makes, in its format. What a format of lines has no place for is in the headers.
    fn page(&self, part: Part, next: &NextCursor, as_of: Option<Seq>, links: Links, pending: Pending) -> ReadPage {
        let Part { entries, walk, evicted, .. } = part;
        let (format, epoch, more) = (self.format, walk.scan.epoch(), Some(next.more));
        let gap = Gap::widened(walk.gap, evicted);
        let mut body = Vec::new();
        format.begin(&mut body);
        if format == Format::Json {
            body.extend(entries.join(&b','));
            body.extend_from_slice(b"],\"cursor\":");
            serde_json::to_writer(&mut body, next).expect("a cursor is plain data");
            if let Some(gap) = &gap {
                body.extend_from_slice(b",\"gap\":");
                serde_json::to_writer(&mut body, gap).expect("a gap is plain data");
            }
            body.push(b'}');
        } else {
            body.extend(entries.into_iter().flatten());
            if let Some(gap) = &gap {
                format.gap(&mut body, gap, &Now::on(&self.hostname, self.boot_id));
            }
        }
        ReadPage { body, format, epoch, as_of, total: None, more, gap, links, pending }
    }

    /// The query of another page of this list.
    fn query<'a>(
        &self,
        seqs: &[(&'a str, Seq)],
        epoch: Uuid,
        known: Option<Known>,
    ) -> impl Iterator<Item = (&'a str, String)> {
        let seqs = seqs.iter().map(|(name, seq)| (*name, seq.0.to_string())).collect::<Vec<_>>();
        let rest = [("epoch", epoch.to_string()), ("limit", self.limit.to_string())];
        let format = (self.format != Format::Json).then(|| ("format", self.format.name().to_owned()));
        let known = known.map(|known| ("known", known.to_text()));
        self.filter.pairs().into_iter().chain(seqs).chain(known).chain(rest).chain(format)
    }
}

impl Responder for ReadPage {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let Self { body, format, epoch, as_of, total, more, gap, links, pending } = self;
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, format.media_type())).insert_header((AUDIT_EPOCH, epoch.to_string()));
        if let Some(total) = total {
            response.insert_header((AUDIT_TOTAL_ITEMS, total));
        }
        if let Some(more) = more {
            response.insert_header((AUDIT_MORE, if more { "true" } else { "false" }));
        }
        if let Some(gap) = gap {
            response.insert_header((AUDIT_GAP, serde_json::to_string(&gap).expect("a gap is plain data")));
        }
        if let Some(as_of) = as_of {
            response.insert_header((AUDIT_AS_OF, as_of.0));
        }
        if let Some(links) = links.header() {
            response.insert_header((LINK, links));
        }
        pending.tell(&mut response);
        let body = Encoding::accepted(request).whole(body, &mut response);
        response.body(body)
    }
}
