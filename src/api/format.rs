//! The formats in which entries are exported, and which of them a caller wants.

pub(crate) mod csv;
mod journal;

use std::cmp::Reverse;

use schemars::JsonSchema;

use super::ApiError;
use super::encoding::weight;
use crate::audit::{Gap, ServedEntry};
pub(super) use journal::Now;

/// How an export is written, or a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Format {
    /// One object: `items`, then `total_items` and `evicted_items`.
    Json,
    /// One entry a line; a last line `{"gap": ...}` where entries were evicted meanwhile.
    Ndjson,
    /// RFC 4180 with a header line; a last line `#gap,...` where entries were evicted meanwhile.
    Csv,
    /// The Journal Export Format of systemd.
    Journal,
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Journal];

    /// The format with that name.
    pub(super) fn named(name: &str) -> Result<Self, ApiError> {
        let named = Self::ALL.into_iter().find(|format| format.name() == name);
        named.ok_or_else(|| ApiError::BadRequest("format takes json, ndjson, csv or journal.".to_owned()))
    }

    /// The format that an `Accept` header weighs most; JSON where it names none of ours.
    pub(super) fn accepted(accept: &str) -> Self {
        most_wanted(accept, Self::offers()).unwrap_or(Self::Json)
    }

    /// Each with its media type.
    fn offers() -> impl Iterator<Item = (&'static str, Self)> {
        let of = |format: Self| (format.media_type().split(';').next().unwrap_or_default(), format);
        Self::ALL.into_iter().map(of).chain([("application/ndjson", Self::Ndjson)])
    }

    /// The value of `format` for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Journal => "journal",
        }
    }

    /// The media type of an export.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Journal => "application/vnd.fdo.journal",
        }
    }

    /// Writes what comes before the entries.
    pub(super) fn begin(self, body: &mut Vec<u8>) {
        match self {
            Self::Json => body.extend_from_slice(b"{\"items\":["),
            Self::Csv => csv::header(body),
            Self::Ndjson | Self::Journal => {}
        }
    }

    /// Writes an entry of this node behind so many others.
    pub(super) fn entry(self, body: &mut Vec<u8>, entry: &ServedEntry<'_>, others: u64, hostname: &str) {
        match self {
            Self::Json => {
                if others > 0 {
                    body.push(b',');
                }
                entry.write_json(body);
            }
            Self::Ndjson => {
                entry.write_json(body);
                body.push(b'\n');
            }
            Self::Csv => csv::row(body, entry),
            Self::Journal => journal::entry(body, entry, hostname),
        }
    }

    /// Writes the gap of a page behind its entries, in a format of lines.
    pub(super) fn gap(self, body: &mut Vec<u8>, gap: &Gap, now: &Now<'_>) {
        let json = serde_json::to_string(gap).expect("a gap is plain data");
        let line = match self {
            Self::Json => return,
            Self::Ndjson => format!("{{\"gap\":{json}}}\n"),
            Self::Csv => format!("#gap,\"{}\"\r\n", json.replace('"', "\"\"")),
            Self::Journal => return journal::gap(body, gap.count, now),
        };
        body.extend_from_slice(line.as_bytes());
    }

    /// Writes what comes after the entries: how many there were, and how many were evicted before they could be read.
    pub(super) fn end(self, body: &mut Vec<u8>, entries: u64, evicted: u64, now: &Now<'_>) {
        let end = match self {
            Self::Json => format!("],\"total_items\":{entries},\"evicted_items\":{evicted}}}"),
            _ if evicted == 0 => return,
            Self::Ndjson => format!("{{\"gap\":{{\"evicted_items\":{evicted}}}}}\n"),
            Self::Csv => format!("#gap,evicted_items,{evicted}\r\n"),
            Self::Journal => return journal::gap(body, Some(evicted), now),
        };
        body.extend_from_slice(end.as_bytes());
    }
}

/// What an `Accept` header (RFC 9110, section 12.5.1) weighs most of what is offered by its media type. Each has the weight of the range
/// that fits it most exactly; of those that weigh the same, it is the one whose range is named first, then the one offered first.
fn most_wanted<T>(accept: &str, offers: impl Iterator<Item = (&'static str, T)>) -> Option<T> {
    let range = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        (media_type, weight(parts))
    };
    let ranges: Vec<_> = accept.split(',').map(range).collect();
    let weighed = offers.filter_map(|(media_type, offer)| {
        let (kind, _) = media_type.split_once('/')?;
        let exact = [media_type.to_owned(), format!("{kind}/*"), "*/*".to_owned()];
        let index = exact.iter().find_map(|name| ranges.iter().position(|(range, _)| range == name))?;
        Some(((ranges[index].1, Reverse(index)), offer))
    });
    let best = weighed.filter(|((weight, _), _)| *weight > 0);
    best.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, offer)| offer)
}

/// How the list is told: in pages, or as it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// A page.
    Page(Format),
    /// Server-sent events, one an entry, until the caller goes away.
    Events,
}

impl JsonSchema for Listing {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listing".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = Format::ALL.into_iter().map(Format::name).chain([Self::EVENTS_NAME]).collect::<Vec<_>>();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

impl Listing {
    /// The media type of a stream.
    pub(super) const EVENTS: &str = "text/event-stream";

    const EVENTS_NAME: &str = "sse";

    /// What a call asks for by `format`, or else by its `Accept` header.
    pub(super) fn asked_for(name: Option<&str>, accept: &str) -> Result<Self, ApiError> {
        let wrong = |_| ApiError::BadRequest("format takes json, ndjson, csv, journal or sse.".to_owned());
        match name {
            Some(Self::EVENTS_NAME) => Ok(Self::Events),
            Some(name) => Format::named(name).map(Self::Page).map_err(wrong),
            None => {
                let pages = Format::offers().map(|(media_type, format)| (media_type, Self::Page(format)));
                let offers = pages.chain([(Self::EVENTS, Self::Events)]);
                Ok(most_wanted(accept, offers).unwrap_or(Self::Page(Format::Json)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_caller_weighs_most_and_json_where_he_does_not_care() {
        let json = [
            "",
            "*/*",
            "application/json",
            "text/html, application/json;q=0.9, application/x-ndjson;q=0.1",
            "image/png",
            "text/csv;q=0.5, */*",
            "application/json, text/plain, */*",
        ];
        for accept in json {
            assert_eq!(Format::accepted(accept), Format::Json, "{accept}");
        }
        for accept in [
            "application/x-ndjson",
            "application/x-ndjson;q=0.5, */*;q=0.1",
            "application/ndjson, text/csv;q=0.9",
            // What is named holds against a star, wherever it stands.
            "application/*, application/json;q=0",
            "application/json;q=0, */*;q=0.1",
        ] {
            assert_eq!(Format::accepted(accept), Format::Ndjson, "{accept}");
        }
        for accept in ["text/csv", "text/*", "application/json;q=0, text/csv;q=0.1", "TEXT/CSV; charset=utf-8; q=1.0"] {
            assert_eq!(Format::accepted(accept), Format::Csv, "{accept}");
        }
        assert_eq!(Format::accepted("application/vnd.fdo.journal"), Format::Journal);
        for accept in ["text/event-stream", "text/event-stream, */*;q=0.5", "text/csv;q=0, text/*"] {
            assert_eq!(Listing::asked_for(None, accept).unwrap(), Listing::Events, "{accept}");
        }
        for accept in ["text/*", "*/*", "text/event-stream;q=0, */*"] {
            assert_ne!(Listing::asked_for(None, accept).unwrap(), Listing::Events, "{accept}");
        }
    }
}
