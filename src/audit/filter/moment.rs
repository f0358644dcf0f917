//! A point in time, as one writes it in a query.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::decimal;
use crate::host::clock;

/// A point in time: milliseconds since 1970 (UTC). A fraction of one is rounded up, so that what was before it is before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub unix_ms: i64,
    /// Whether it was given as so long before now.
    pub is_relative: bool,
}

impl Moment {
    pub(super) const FORM: &str = "a time such as 2026-02-21T10:30:00Z, or so long before now: -15m (s, m, h, d, w)";

    pub(super) fn parse(text: &str, now_ms: i64) -> Option<Self> {
        if let Some(duration) = text.strip_prefix('-') {
            let unix_ms = now_ms.checked_sub(duration_ms(duration)?)?;
            return Some(Self { unix_ms, is_relative: true });
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
        let is_between = at.unix_timestamp_nanos().rem_euclid(1_000_000) > 0;
        Some(Self { unix_ms: i64::try_from(millis).ok()? + i64::from(is_between), is_relative: false })
    }
}

/// Up to nine digits and a unit.
fn duration_ms(text: &str) -> Option<i64> {
    let unit = text.bytes().last()?;
    let digits = &text[..text.len() - usize::from(unit.is_ascii())];
    let unit_ms = match unit {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        b'w' => 604_800_000,
        _ => return None,
    };
    decimal::parse::<i64>(digits).filter(|_| digits.len() <= 9).map(|number| number * unit_ms)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clock::rfc3339(self.unix_ms))
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "anyOf": [{ "format": "date-time" }, { "pattern": "^-[0-9]{1,9}[smhdw]$" }] })
    }
}
