//! Server-sent events (WHATWG HTML, section 9.2.5): how they are written, and the ID that says where to go on.

use std::fmt;

use schemars::JsonSchema;
use uuid::Uuid;

use crate::audit::{Known, Seq};
use crate::decimal;

/// Where a reader of a stream is: the ring, the last entry that he has seen or need not see, and, where it is known, how many
/// entries of each class are accounted for. Stands in `id:` and in the header `Last-Event-ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) epoch: Uuid,
    pub(super) after: Seq,
    pub(super) known: Option<Known>,
}

impl EventId {
    /// What [`fmt::Display`] writes, the other way.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (epoch, after, known) = (parts.next()?, parts.next()?, parts.next());
        let is_whole = parts.next().is_none() && epoch.len() == uuid::fmt::Hyphenated::LENGTH;
        let known = known.map(|known| Known::parse(known).ok_or(())).transpose().ok()?;
        let after = Seq(decimal::parse(after).map(i64::unsigned_abs)?);
        is_whole.then_some(Self { epoch: Uuid::try_parse(epoch).ok()?, after, known })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.after.0)?;
        self.known.map_or(Ok(()), |known| write!(f, "/{}", known.to_text()))
    }
}

/// An event of the log's stream.
#[expect(dead_code, reason = "it describes what `event` writes, for those who read the API description")]
#[derive(JsonSchema)]
pub(super) struct Event {
    /// Where to go on behind it (`Last-Event-ID`).
    id: Option<String>,
    /// What it tells: `entry`, `gap` or `end`.
    #[schemars(rename = "event")]
    kind: String,
    /// An object in JSON.
    data: String,
}

/// Writes an event. `data` has no line break.
pub(super) fn event(stream: &mut Vec<u8>, id: Option<EventId>, kind: &str, data: &[u8]) {
    if let Some(id) = id {
        stream.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    stream.extend_from_slice(format!("event: {kind}\ndata: ").as_bytes());
    stream.extend_from_slice(data);
    stream.extend_from_slice(b"\n\n");
}

/// Writes where the reader is, without an event.
pub(super) fn place(stream: &mut Vec<u8>, id: EventId) {
    stream.extend_from_slice(format!("id: {id}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let epoch = Uuid::from_u128(0x0d9c);
        for known in [None, Some(Known { up_to: [12, 0, 7], from: None })] {
            let id = EventId { epoch, after: Seq(1_234), known };
            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
        let bare = "00000000-0000-0000-0000-000000000d9c";
        for wrong in ["", "1234", bare, &format!("{bare}/"), &format!("{bare}/-1"), &format!("{bare}/1/2.3")] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(EventId::parse(&format!("{bare}/1/1.2.3/4")), None);
    }
}
