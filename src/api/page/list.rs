//! The list that pages are of, and how a page of it is read: in steps, between which others have their turn.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::Page;
use super::answer::ReadPage;
use crate::api::format::{Format, Now};
use crate::api::freshness::{News, Patience};
use crate::api::json::Pending;
use crate::api::links::Links;
use crate::api::state::RingDeadline;
use crate::api::{ApiError, AppState};
use crate::audit::{Cursor, Filter, Gap, Known, Order, Reader, Seq, ServedEntry, Walk};

/// Entries that a step skips.
const STEP_ENTRIES: u64 = 512;

/// Where to read on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditCursor")]
pub(in crate::api) struct NextCursor {
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
pub(super) struct Part {
    entries: Vec<Vec<u8>>,
    seqs: Vec<Seq>,
    walk: Walk,
    evicted: [u64; 3],
}

/// What all pages of a list have in common.
#[derive(Clone)]
pub(super) struct List {
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
    pub(super) fn of(page: &Page, state: &AppState) -> Self {
        let Page { filter, format, limit, .. } = page;
        // Read where it is written.
        let hostname = if *format == Format::Journal { state.hostname() } else { String::new() };
        Self { filter: filter.clone(), format: *format, limit: *limit, hostname, boot_id: state.ring.boot_id }
    }

    pub(super) async fn by_offset(
        self,
        state: &AppState,
        deadline: RingDeadline,
        pending: Pending,
        offset: u64,
    ) -> Result<ReadPage, ApiError> {
        let Self { filter, format, limit, hostname, .. } = self.clone();
        let body = Vec::with_capacity(limit.min(100) as usize * 512);
        let mut items = Items { format, hostname, body, count: 0, ends: None };
        let is_all = filter == Filter::default();
        let in_memory = if is_all { state.reader.newest(limit, offset, |entry| items.push(entry)) } else { None };
        let mut search;
        (items, search) = match in_memory {
            Some(search) => (items, search),
            None => {
                state
                    .read(deadline, move |reader| {
                        let search = reader.search(&filter, limit, offset, |entry| items.push(entry))?;
                        Ok((items, search))
                    })
                    .await?
            }
        };
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
        let (mut links, as_of) = (Links::default(), search.as_of);
        if let Some((first, last)) = items.ends {
            if search.has_older() {
                links.add("next", list.query(&[("as_of", as_of), ("before", last)], epoch, Some(known)));
            }
            if offset > 0 {
                links.add("prev", list.query(&[("as_of", as_of), ("after", first)], epoch, None));
            }
        }
        links.add("first", list.query(&[("as_of", as_of)], epoch, None));
        let format = self.format;
        Ok(ReadPage {
            body,
            format,
            epoch,
            as_of: Some(as_of),
            total: Some(total),
            more: None,
            gap: None,
            links,
            pending,
        })
    }

    /// Reads on; where there is nothing, when something comes that is more than another reading of the log, or patience ends.
    pub(super) async fn part_when_new(
        &self,
        state: &AppState,
        cursor: &Cursor,
        offset: u64,
        patience: Patience,
    ) -> Result<(Part, Pending), ApiError> {
        // Also where nothing but readings of the log has come since.
        let patience =
            if patience.is_some() && self.is_settled(state, cursor).await? { Patience::NONE } else { patience };
        let mut seen = cursor.after.unwrap_or(Seq(0));
        loop {
            let news = state.writer.news();
            let is_over = news <= seen && patience.news_after(state, seen).await == News::None;
            let pending = state.make_visible(RingDeadline::from_now()).await;
            let part = self.part(state, cursor.clone(), offset, Order::OldestFirst).await?;
            let is_answer = !part.seqs.is_empty() || part.walk.is_settled(cursor);
            if is_answer || is_over || !patience.is_some() {
                return Ok((part, pending));
            }
            seen = news.max(seen);
        }
    }

    /// Whether it is of no use to wait for what comes behind a cursor.
    async fn is_settled(&self, state: &AppState, cursor: &Cursor) -> Result<bool, ApiError> {
        let (filter, cursor) = (self.filter.clone(), cursor.clone());
        let is_settled = move |reader: &Reader| {
            let walk = reader.walk(&filter, &cursor, Order::OldestFirst)?;
            Ok(walk.is_settled(&cursor))
        };
        state.read(RingDeadline::from_now(), is_settled).await
    }

    /// Reads on behind so many entries until the page is full or all is read.
    pub(super) async fn part(
        &self,
        state: &AppState,
        cursor: Cursor,
        offset: u64,
        order: Order,
    ) -> Result<Part, ApiError> {
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

    pub(super) fn behind(&self, part: Part, before: Option<Seq>, pending: Pending) -> ReadPage {
        let Walk { scan, newest, begin, .. } = &part.walk;
        let more = !scan.is_done();
        let last = part.seqs.last().copied().unwrap_or(*begin);
        // Where all was looked at, what did not match need not be looked at again.
        let end = before.map_or(*newest, |Seq(before)| Seq(before.saturating_sub(1)).min(*newest));
        let after = if more { last } else { last.max(end) };
        let (epoch, known) = (scan.epoch(), Known { up_to: scan.done_up_to(), from: None });
        let mut links = Links::default();
        let seqs: Vec<_> = [("after", after)].into_iter().chain(before.map(|before| ("before", before))).collect();
        links.add("next", self.query(&seqs, epoch, Some(known)));
        let next = NextCursor { epoch, after: Some(after), before: None, known: known.to_text(), more };
        self.page(part, &next, None, links, pending)
    }

    /// `begin` is the seq that all of the part are below.
    pub(super) fn below(&self, part: Part, as_of: Seq, begin: Seq, pending: Pending) -> ReadPage {
        let scan = &part.walk.scan;
        let (epoch, more) = (scan.epoch(), !scan.is_done());
        let known = Known { up_to: scan.done_up_to(), from: Some(scan.done_from()) };
        let before = part.seqs.last().copied().unwrap_or(begin);
        let is_first = begin > as_of;
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

    /// What was read oldest first is told newest first, as the list is.
    pub(super) fn above(&self, mut part: Part, as_of: Seq, pending: Pending) -> ReadPage {
        part.entries.reverse();
        part.seqs.reverse();
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
