//! Which entries a reader wants: conditions that an entry has to meet all of.
//!
//! Parsed from names and values as they stand in a query. Knows neither SQL nor HTTP; `reader::predicate` makes SQL of it.

mod code;
mod moment;

use std::fmt;

use schemars::JsonSchema;

use super::class::Class;
use super::entry::Outcome;
use super::redact::{self, bounded};
use crate::decimal;
use crate::network::Network;
pub use code::Codes;
pub use moment::Moment;

/// Why something is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} takes {expected}")]
pub struct FilterError {
    /// The filter.
    pub name: &'static str,
    /// What its value has to be.
    pub expected: &'static str,
}

/// Conditions, combined with AND. Texts are compared as they are stored: exactly, and with their case.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Filter {
    /// Only calls of this user; empty: anonymous ones.
    pub user: Option<String>,
    /// Only calls of users with this role, among others.
    #[schemars(regex(pattern = r"^[^\n]+$"))]
    pub role: Option<String>,
    /// Only calls with this method.
    pub method: Option<String>,
    /// Only calls of this path; of all that begin so where it ends in `*`.
    #[schemars(with = "Option<String>")]
    pub path: Option<PathPattern>,
    /// Only calls of this operation.
    pub operation_id: Option<String>,
    /// Only calls from this address, or from this network (`10.0.0.0/8`).
    pub source_ip: Option<Network>,
    /// Only calls answered with this code (`403`), one of these (`4xx`), or one in a range (`>=500`; also `>`, `<=`, `<`).
    pub response_code: Option<Codes>,
    /// Only calls that ended so.
    pub outcome: Option<Outcome>,
    /// Only entries of this class.
    pub class: Option<Class>,
    /// Only calls from then on: RFC 3339, or so long before now (`-15m`; also `s`, `h`, `d`, `w`).
    pub since: Option<Moment>,
    /// Only calls before then, in the same forms.
    pub until: Option<Moment>,
    /// Only calls that took so many milliseconds or longer.
    #[schemars(range(max = 9_223_372_036_854_775_u64))]
    pub min_duration_ms: Option<u64>,
}

/// A path, or how it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
}

impl Filter {
    /// The names of the filters.
    pub const NAMES: [&str; 12] = [
        "user",
        "role",
        "method",
        "path",
        "operation_id",
        "source_ip",
        "response_code",
        "outcome",
        "class",
        "since",
        "until",
        "min_duration_ms",
    ];

    /// The filter with these values, of names in [`Self::NAMES`]; others are passed over. `now_ms` is what relative times are before.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, now_ms: i64) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (name, value) in pairs {
            filter.set(name, value, now_ms)?;
        }
        Ok(filter)
    }

    fn set(&mut self, name: &str, value: &str, now_ms: i64) -> Result<(), FilterError> {
        match name {
            "user" => self.user = Some(value.to_owned()),
            "role" => self.role = Some(role(value).ok_or(expected("role", "the name of a role"))?),
            // Cut and escaped as what is stored.
            "method" => self.method = Some(bounded(value, redact::METHOD_MAX_BYTES)),
            "path" => self.path = Some(PathPattern::parse(value)),
            "operation_id" => self.operation_id = Some(value.to_owned()),
            "source_ip" => self.source_ip = Some(value.parse().map_err(|_| expected("source_ip", Network::FORM))?),
            "response_code" => {
                self.response_code = Some(Codes::parse(value).ok_or(expected("response_code", Codes::FORM))?);
            }
            "outcome" => {
                let form = "completed, aborted, panicked, interrupted or rejected";
                let named = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == value);
                self.outcome = Some(named.ok_or(expected("outcome", form))?);
            }
            "class" => {
                let named = Class::ALL.into_iter().find(|class| class.as_str() == value);
                self.class = Some(named.ok_or(expected("class", "change, read or denied"))?);
            }
            "since" => self.since = Some(Moment::parse(value, now_ms).ok_or(expected("since", Moment::FORM))?),
            "until" => self.until = Some(Moment::parse(value, now_ms).ok_or(expected("until", Moment::FORM))?),
            "min_duration_ms" => {
                let form = "a number of milliseconds in decimal digits";
                self.min_duration_ms = Some(millis(value).ok_or(expected("min_duration_ms", form))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Names and values that make the same filter whenever they are parsed.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let values = [
            self.user.clone(),
            self.role.clone(),
            self.method.clone(),
            self.path.as_ref().map(PathPattern::to_string),
            self.operation_id.clone(),
            self.source_ip.map(|network| network.to_string()),
            self.response_code.map(|codes| codes.to_string()),
            self.outcome.map(|outcome| outcome.as_str().to_owned()),
            self.class.map(|class| class.as_str().to_owned()),
            self.since.map(|moment| moment.to_string()),
            self.until.map(|moment| moment.to_string()),
            self.min_duration_ms.map(|millis| millis.to_string()),
        ];
        Self::NAMES.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl PathPattern {
    fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            // A path that was cut tells its length at its end, so what is longer is the beginning of none.
            Some(prefix) => Self::Prefix(bounded(prefix, usize::MAX)),
            None => Self::Exact(bounded(text, redact::PATH_MAX_BYTES)),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

const fn expected(name: &'static str, expected: &'static str) -> FilterError {
    FilterError { name, expected }
}

/// The name of a role. None has a line break, which stands between the stored ones.
fn role(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains('\n')).then(|| text.to_owned())
}

/// Milliseconds of which there are microseconds in 63 bits.
fn millis(text: &str) -> Option<u64> {
    decimal::parse(text).filter(|millis| *millis <= i64::MAX.unsigned_abs() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Filter, FilterError> {
        Filter::parse([(name, value)], 1_752_000_000_000)
    }

    #[test]
    fn a_value_that_is_none_is_refused_by_name() {
        for (name, value) in [
            ("role", ""),
            ("role", "a\nb"),
            ("source_ip", "10.0.0"),
            ("source_ip", "10.0.0.0/33"),
            ("source_ip", "::/129"),
            ("source_ip", "10.0.0.0/"),
            ("source_ip", "10.0.0.0/+8"),
            ("response_code", "4x"),
            ("response_code", "1000"),
            ("response_code", "=>500"),
            ("response_code", ">= 500"),
            ("response_code", ""),
            ("outcome", "Completed"),
            ("class", "reads"),
            ("since", "yesterday"),
            ("since", "15m"),
            ("since", "-15"),
            ("since", "-m"),
            ("until", "2025-02-30T00:00:00Z"),
            ("until", "2025-02-03"),
            ("min_duration_ms", "-1"),
            ("min_duration_ms", "9223372036854776"),
        ] {
            assert_eq!(parse(name, value).map_err(|error| error.name), Err(name), "{name}={value}");
        }
    }

    #[test]
    fn the_beginning_of_a_path_is_compared_as_paths_are_stored() {
        let pairs = parse("path", "/\u{0}*").unwrap().pairs();
        assert_eq!(pairs, [("path", "/\\u{0}*".to_owned())]);
    }

    #[test]
    fn a_filter_is_made_again_by_its_own_pairs() {
        let pairs = [
            ("user", "ops@example.com"),
            ("role", "admin"),
            ("method", "GET"),
            ("path", "/node/*"),
            ("operation_id", "GetNodeHostname"),
            ("source_ip", "10.1.2.3/8"),
            ("response_code", "<=499"),
            ("outcome", "aborted"),
            ("class", "denied"),
            ("since", "-15m"),
            ("until", "2025-07-08T18:40:00.1234Z"),
            ("min_duration_ms", "007"),
        ];
        assert_eq!(pairs.map(|(name, _)| name), Filter::NAMES);
        let filter = Filter::parse(pairs, 1_752_000_000_000).unwrap();
        let made = filter.pairs();
        let again = Filter::parse(made.iter().map(|(name, value)| (*name, value.as_str())), 0).unwrap();
        assert_eq!(again.pairs(), made);
        let value = |name| made.iter().find(|(made, _)| *made == name).map(|(_, value)| value.as_str());
        assert_eq!(value("source_ip"), Some("10.0.0.0/8"));
        assert_eq!(value("since"), Some("2025-07-08T18:25:00.000Z"));
        assert_eq!(value("until"), Some("2025-07-08T18:40:00.124Z"));
    }
}
