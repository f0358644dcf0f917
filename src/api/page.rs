//! A page of the log: which one is asked for. How it is read is in `list`, what is answered in `answer`.
//!
//! A page by `offset` is what the contract has. It moves with every call, so its links lead to pages that don't: each begins
//! where the last one ended, by `seq`, and keeps to what the ring held when the first one was made.

mod answer;
mod list;

use super::format::Format;
use super::freshness::Patience;
use super::query::Query;
use super::state::RingDeadline;
use super::{ApiError, AppState};
use crate::audit::{Cursor, Filter, Order, Seq};
pub(super) use answer::ReadPage;
use list::List;
pub(super) use list::NextCursor;

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

impl Page {
    /// Takes the page that a query asks for.
    pub(super) fn take(query: &mut Query, format: Format) -> Result<Self, ApiError> {
        let limit = query.take_limit()?;
        let filter = query.take_filter()?;
        let offset = query.take_number("offset")?.unwrap_or(0);
        let mut seq = |name| query.take_number(name).map(|number| number.map(Seq));
        let (as_of, after, before) = (seq("as_of")?, seq("after")?, seq("before")?);
        let cursor = Cursor { after, before, ..query.take_cursor(as_of.or(after).or(before))? };
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
            let (part, pending) = list.part_when_new(state, &cursor, self.offset, patience).await?;
            return Ok(list.behind(part, cursor.before, pending));
        }
        let deadline = RingDeadline::from_now();
        let pending = state.make_visible(deadline).await;
        let Self { offset, place, .. } = self;
        match place {
            Place::Offset | Place::Behind(_) => list.by_offset(state, deadline, pending, offset).await,
            Place::Below { as_of, cursor } => {
                let begin = cursor.before.unwrap_or(Seq(as_of.0 + 1));
                let part = list.part(state, cursor, offset, Order::NewestFirst).await?;
                Ok(list.below(part, as_of, begin, pending))
            }
            Place::Above { as_of, cursor } => {
                let part = list.part(state, cursor, offset, Order::OldestFirst).await?;
                Ok(list.above(part, as_of, pending))
            }
        }
    }
}
