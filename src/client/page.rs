//! A page of the log as an agent sends it: read, and not believed.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::audit::Known;

/// Bytes that a page has at most: an entry has a few KiB at most, and there are 100.
pub const PAGE_MAX_BYTES: usize = 4 << 20;

/// A page. Entries are kept as they were sent.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    /// The entries.
    #[serde(borrow)]
    pub items: Vec<&'a RawValue>,
    /// How many there are in all; not in a page by a link or a cursor.
    pub total_items: Option<u64>,
    /// Where to read on.
    pub cursor: Option<PageCursor>,
    /// What should be in the page and is not there any more.
    #[serde(borrow)]
    pub gap: Option<&'a RawValue>,
}

/// Where to read on.
#[derive(Clone, Debug, Deserialize)]
pub struct PageCursor {
    /// The ring that this is a place in.
    pub epoch: Uuid,
    /// What to send as `after`.
    pub after: Option<u64>,
    /// What to send as `known`.
    pub known: String,
    /// Whether there is something to read at once.
    pub more: bool,
}

/// What a gap says.
#[derive(Clone, Debug, Deserialize)]
pub struct GapTold {
    /// `evicted`, or `new_ring`.
    pub reason: String,
    /// Missing entries have this seq at least.
    pub from: Option<u64>,
    /// They have this seq at most.
    pub to: Option<u64>,
    /// How many they are, if that is known.
    pub count: Option<u64>,
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl<'a> Page<'a> {
    /// Reads a body; says what is wrong with it.
    pub fn parse(body: &'a [u8]) -> Result<Self, String> {
        let page: Self = serde_json::from_slice(body).map_err(|error| format!("its page is none: {error}"))?;
        if let Some(cursor) = &page.cursor
            && Known::parse(&cursor.known).is_none()
        {
            return Err("its cursor is none".to_owned());
        }
        Ok(page)
    }

    /// What the page says to be missing.
    pub fn gap(&self) -> Result<Option<GapTold>, String> {
        let gap = self.gap.map(|gap| serde_json::from_str(gap.get())).transpose();
        gap.map_err(|error| format!("its gap is none: {error}"))
    }
}

impl GapTold {
    /// Whether the entries are of a ring that is no more.
    pub fn is_new_ring(&self) -> bool {
        self.reason == "new_ring"
    }
}

/// The seq of an entry.
pub fn seq_of(entry: &RawValue) -> Result<u64, String> {
    let numbered = serde_json::from_str::<Numbered>(entry.get());
    numbered.map(|entry| entry.seq).map_err(|error| format!("an entry of it is none: {error}"))
}

/// An entry as one line, without the line's end.
pub fn line_of(entry: &RawValue) -> std::borrow::Cow<'_, str> {
    let text = entry.get();
    // In a text of JSON a line end can't stand for itself: it is between values, where a space is as good.
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_as_they_were_sent_each_on_a_line() {
        let body = b"{\"items\":[{\"seq\": 7,\r\n \"user\":\"a\\nb\"}],\"cursor\":null}";
        let page = Page::parse(body).unwrap();
        assert_eq!(seq_of(page.items[0]), Ok(7));
        assert_eq!(line_of(page.items[0]), "{\"seq\": 7,   \"user\":\"a\\nb\"}");
    }

    #[test]
    fn what_is_no_page_is_told() {
        let cursor = |known: &str| {
            format!(
                "{{\"items\":[],\"cursor\":{{\"epoch\":\"{}\",\"known\":\"{known}\",\"more\":false}}}}",
                Uuid::nil()
            )
        };
        assert!(Page::parse(cursor("1.2.3").as_bytes()).is_ok());
        for body in ["", "[]", "{}", "{\"items\":{}}", "{\"items\":[]} x", &cursor("1.2"), &cursor("1.2.3&x=y")] {
            assert!(Page::parse(body.as_bytes()).is_err(), "{body}");
        }
        for entry in ["{}", "7", "{\"seq\":-1}", "{\"seq\":\"7\"}", "{\"seq\":1.5}"] {
            assert!(seq_of(serde_json::from_str(entry).unwrap()).is_err(), "{entry}");
        }
    }
}
