//! References to other pages of the same list: the header `Link` (RFC 8288).

use std::fmt::Write as _;

use crate::percent;

/// The links of a page. Each is a query alone, to be resolved against the address that was called: so they hold behind any proxy.
#[derive(Debug, Default)]
pub(super) struct Links(String);

impl Links {
    /// Adds a link.
    pub(super) fn add<'a>(&mut self, relation: &str, query: impl IntoIterator<Item = (&'a str, String)>) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push('<');
        for (index, (name, value)) in query.into_iter().enumerate() {
            self.0.push(if index == 0 { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            percent::encode(&mut self.0, &value);
        }
        write!(self.0, ">; rel=\"{relation}\"").expect("writing to a String does not fail");
    }

    /// The value of the header; none where there is no link.
    pub(super) fn header(self) -> Option<String> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_in_a_link_is_encoded() {
        let mut links = Links::default();
        links.add("next", [("limit", "5".to_owned()), ("user", "a>;\"&\u{e9}".to_owned())]);
        links.add("first", [("limit", "5".to_owned())]);
        let header = "<?limit=5&user=a%3E%3B%22%26%C3%A9>; rel=\"next\", <?limit=5>; rel=\"first\"";
        assert_eq!(links.header().as_deref(), Some(header));
    }
}
