//! Reading on in the log of one node, to its newest entry.

use std::time::Duration;

use tokio::time::sleep;

use super::nodes::Node;
use super::place::{Place, is_tag};
use super::store::{Kept, Store, StoreError};
use crate::client::{
    Caller, ClientError, GapTold, Limits, PAGE_MAX_BYTES, Page, PageCursor, Query, Secret, SecretError, line_of, seq_of,
};
use crate::tls::TlsError;

/// Bytes of lines that are written and synced together.
const BATCH_BYTES: usize = 1 << 20;

/// How often in a row a page is asked for again that comes too often, and the longest pause before it.
const REFUSALS_MAX: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Why the reading of a node's log ended before its newest entry.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The agent gives no answer that can be used.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The token can't be shown.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No TLS can be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What was read can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program's own work was ended.
    #[error("writing was given up")]
    Ended,
}

/// What came of a node.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries that were added to its file.
    pub entries: u64,
    /// What its ring had lost before it could be read.
    pub gaps: Vec<GapTold>,
    /// Why it ended early.
    pub failure: Option<PullError>,
    /// Whether there is more to read, which is left to the next run.
    pub is_more: bool,
}

/// The reading of one node's log.
pub struct Pull<'a> {
    node: &'a Node,
    store: &'a Store,
    /// Entries after which the rest is left to the next run: what an agent makes up has no end.
    entries_max: u64,
    report: Report,
    /// Lines that are not written yet.
    lines: Vec<u8>,
}

/// What a page was.
enum Step {
    /// It was read, and the agent had more.
    More(Place),
    /// It was read to the newest entry.
    Newest(Place),
    /// There is nothing new.
    Nothing,
}

impl<'a> Pull<'a> {
    /// A reading that has not begun.
    pub fn new(node: &'a Node, store: &'a Store, entries_max: u64) -> Self {
        Self { node, store, entries_max, report: Report::default(), lines: Vec::new() }
    }

    /// Reads on to the newest entry. `progress` hears of each page how many entries it had.
    pub async fn run(mut self, mut progress: impl FnMut(u64)) -> Report {
        self.report.failure = self.read(&mut progress).await.err();
        self.report
    }

    async fn read(&mut self, progress: &mut impl FnMut(u64)) -> Result<(), PullError> {
        let mut kept = self.store.node(&self.node.name)?;
        let secret = self.node.token_file.as_deref().map(Secret::load).transpose()?;
        let mut caller = Caller::new(self.node.target.clone(), &self.node.trust, secret, Limits::DEFAULT)?;
        let mut place = kept.place.clone();
        let mut refusals = 0;
        loop {
            let before = self.report.entries;
            let step = match self.page(&mut caller, place.as_ref()).await {
                Ok(step) => step,
                Err(error) => {
                    // What came before is sound.
                    if let Some(place) = place.clone() {
                        kept = self.keep(kept, place).await?;
                    }
                    let pause = pause_after(&error).filter(|_| refusals < REFUSALS_MAX).ok_or(error)?;
                    refusals += 1;
                    sleep(pause).await;
                    continue;
                }
            };
            refusals = 0;
            progress(self.report.entries - before);
            match step {
                Step::Nothing => return Ok(()),
                Step::Newest(place) => return self.keep(kept, place).await.map(|_| ()),
                Step::More(next) if self.report.entries >= self.entries_max => {
                    self.report.is_more = true;
                    return self.keep(kept, next).await.map(|_| ());
                }
                Step::More(next) => {
                    if self.lines.len() >= BATCH_BYTES {
                        kept = self.keep(kept, next.clone()).await?;
                    }
                    place = Some(next);
                }
            }
        }
    }

    /// Writes what was read, and where that ends. Others go on meanwhile.
    async fn keep(&mut self, mut kept: Kept, place: Place) -> Result<Kept, PullError> {
        let lines = std::mem::take(&mut self.lines);
        let written = tokio::task::spawn_blocking(move || kept.add(&lines, place).map(|()| kept));
        Ok(written.await.map_err(|_| PullError::Ended)??)
    }

    /// Reads the page behind a place, or the first one. Where it is not in order nothing of it is kept.
    async fn page(&mut self, caller: &mut Caller, place: Option<&Place>) -> Result<Step, ClientError> {
        let mut query = Query::new("/audit").with("limit", "100");
        query = query.with("after", &place.map_or(0, |place| place.after).to_string());
        if let Some(place) = place {
            query = query.with("epoch", &place.epoch.to_string()).with("known", &place.known);
        }
        let tag = place.and_then(|place| place.etag.as_deref());
        let headers: Vec<_> = tag.map(|tag| ("If-None-Match", tag)).into_iter().collect();
        let answer = caller.get(query.as_str(), &headers, Duration::ZERO).await?;
        if answer.status() == 304 {
            answer.whole(0, "an answer without a body").await?;
            return Ok(Step::Nothing);
        }
        let etag = answer.header("etag").filter(|tag| is_tag(tag)).map(str::to_owned);
        let body = answer.whole(PAGE_MAX_BYTES, "a page").await?;
        let read = Page::parse(&body).and_then(|page| Checked::new(&page, place));
        let Checked { lines, entries, gap, place, is_more } = read.map_err(|what| caller.foreign(what))?;
        self.lines.extend(lines);
        self.report.entries += entries;
        self.report.gaps.extend(gap);
        // A tag is one of the whole log, so it holds for who has read all of it.
        Ok(if is_more { Step::More(place) } else { Step::Newest(Place { etag, ..place }) })
    }
}

/// How long to wait before the same page is asked for again: only where the agent says that this comes too often.
fn pause_after(error: &ClientError) -> Option<Duration> {
    let ClientError::Refused { problem, .. } = error else { return None };
    (problem.status == 429).then(|| Duration::from_secs(problem.retry_after_s.unwrap_or(1)).min(PAUSE_MAX))
}

/// A page that is in order.
struct Checked {
    lines: Vec<u8>,
    entries: u64,
    gap: Option<GapTold>,
    place: Place,
    is_more: bool,
}

impl Checked {
    /// A page as what follows on a place; says what is wrong with it.
    fn new(page: &Page<'_>, place: Option<&Place>) -> Result<Self, String> {
        let wrong = |what: &str| Err(what.to_owned());
        let Some(PageCursor { epoch, after: Some(after), known, more }) = page.cursor.clone() else {
            return wrong("its page has no cursor");
        };
        let gap = page.gap()?;
        let is_new_ring = gap.as_ref().is_some_and(GapTold::is_new_ring);
        if !is_new_ring && place.is_some_and(|place| place.epoch != epoch) {
            return wrong("its ring is another one, and it does not say so");
        }
        let mut lines = Vec::new();
        if let Some(gap) = page.gap {
            let gap = line_of(gap);
            lines.extend_from_slice(format!("{{\"gap\":{gap},\"epoch\":\"{epoch}\"}}\n").as_bytes());
        }
        let mut last = place.filter(|_| !is_new_ring).map_or(0, |place| place.after);
        for entry in &page.items {
            let seq = seq_of(entry)?;
            if seq <= last {
                return Err(format!("seq {seq} comes after {last}"));
            }
            last = seq;
            lines.extend_from_slice(line_of(entry).as_bytes());
            lines.push(b'\n');
        }
        if after < last {
            return wrong("its cursor stands before what it has sent");
        }
        if more && page.items.is_empty() {
            return wrong("it has more, and sends nothing of it");
        }
        let output_bytes = place.map_or(0, |place| place.output_bytes);
        let place = Place { epoch, after, known, etag: None, output_bytes };
        Ok(Self { lines, entries: page.items.len() as u64, gap, place, is_more: more })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const EPOCH: Uuid = Uuid::from_u128(1);

    fn page(epoch: Uuid, seqs: &[u64], after: u64, more: bool, gap: &str) -> String {
        let items: Vec<_> = seqs.iter().map(|seq| format!("{{\"seq\":{seq}}}")).collect();
        let items = items.join(",");
        format!(
            "{{\"items\":[{items}],\"cursor\":{{\"epoch\":\"{epoch}\",\"after\":{after},\"known\":\"1.2.3\",\"more\":{more}}}{gap}}}"
        )
    }

    fn check(text: &str) -> Result<Checked, String> {
        let place = Place { epoch: EPOCH, after: 10, known: "1.1.1".to_owned(), etag: None, output_bytes: 7 };
        Page::parse(text.as_bytes()).and_then(|page| Checked::new(&page, Some(&place)))
    }

    #[test]
    fn a_page_that_follows_is_taken_with_its_gap_before_it() {
        let gap = ",\"gap\":{\"reason\":\"evicted\",\"from\":11,\"to\":11,\"count\":1,\"classes\":{}}";
        let checked = check(&page(EPOCH, &[12, 14], 14, true, gap)).unwrap();
        let lines = String::from_utf8(checked.lines).unwrap();
        assert!(
            lines.starts_with("{\"gap\":{\"reason\":\"evicted\",")
                && lines.ends_with("}\n{\"seq\":12}\n{\"seq\":14}\n"),
            "{lines}"
        );
        assert_eq!((checked.entries, checked.place.after, checked.is_more), (2, 14, true));
        let other = Uuid::from_u128(2);
        let gap = ",\"gap\":{\"reason\":\"new_ring\",\"classes\":{}}";
        let checked = check(&page(other, &[1], 1, false, gap)).unwrap();
        assert!(checked.gap.unwrap().is_new_ring() && checked.place.epoch == other);
    }

    #[test]
    fn a_page_that_contradicts_itself_or_what_was_before_is_none() {
        let other = Uuid::from_u128(2);
        for text in [
            page(EPOCH, &[10], 10, false, ""),
            page(EPOCH, &[9], 11, false, ""),
            page(EPOCH, &[12, 12], 12, false, ""),
            page(EPOCH, &[13, 12], 13, false, ""),
            page(EPOCH, &[12], 11, false, ""),
            page(EPOCH, &[], 9, false, ""),
            page(EPOCH, &[], 11, true, ""),
            page(other, &[12], 12, false, ""),
            page(EPOCH, &[12], 12, false, ",\"gap\":{}"),
            "{\"items\":[]}".to_owned(),
        ] {
            assert!(check(&text).is_err(), "{text}");
        }
    }
}
