//! Response codes: one, a hundred, or a range.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::decimal;

/// The codes from the first to the last. 0 is that of calls without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// The lowest.
    pub first: u16,
    /// The highest; below the lowest where there is none.
    pub last: u16,
}

impl Codes {
    pub(super) const FORM: &str = "a code such as 403, 4xx or >=500";
    const LAST: u16 = 999;

    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(hundreds) = text.strip_suffix("xx") {
            let first = code(hundreds).filter(|_| hundreds.len() == 1)? * 100;
            return Some(Self { first, last: first + 99 });
        }
        let (comparison, digits) = text.split_at(text.find(|c: char| c.is_ascii_digit())?);
        let code = code(digits)?;
        match comparison {
            "" => Some(Self { first: code, last: code }),
            ">=" => Some(Self { first: code, last: Self::LAST }),
            ">" => Some(Self { first: code + 1, last: Self::LAST }),
            "<=" => Some(Self { first: 0, last: code }),
            // None is below 0.
            "<" if code == 0 => Some(Self { first: 1, last: 0 }),
            "<" => Some(Self { first: 0, last: code - 1 }),
            _ => None,
        }
    }
}

fn code(digits: &str) -> Option<u16> {
    decimal::parse(digits).filter(|_| digits.len() <= 3)
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (1, 0) => f.write_str("<0"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, Self::LAST) if first > 0 => write!(f, ">{}", first - 1),
            (0, last) => write!(f, "<={last}"),
            (first, _) => write!(f, "{}xx", first / 100),
        }
    }
}

impl JsonSchema for Codes {
    fn schema_name() -> Cow<'static, str> {
        "Codes".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^((>=|>|<=|<)?[0-9]{1,3}|[0-9]xx)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_ends_and_is_written_so_that_it_has_them_again() {
        for (text, first, last) in [
            ("403", 403, 403),
            ("4xx", 400, 499),
            ("0xx", 0, 99),
            (">=500", 500, 999),
            (">=0", 0, 999),
            (">500", 501, 999),
            (">999", 1_000, 999),
            ("<=404", 0, 404),
            ("<404", 0, 403),
            ("<0", 1, 0),
        ] {
            let codes = Codes { first, last };
            assert_eq!(Codes::parse(text), Some(codes), "{text}");
            assert_eq!(Codes::parse(&codes.to_string()), Some(codes), "{text} as {codes}");
        }
    }
}
