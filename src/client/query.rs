//! A path with its query, as a caller asks for it.

use crate::percent;

/// A path, and names with values behind it.
#[derive(Clone, Debug)]
pub struct Query(String);

impl Query {
    /// A path without any.
    pub fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// With this value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        percent::encode(&mut self.0, value);
        self
    }

    /// With these values.
    #[must_use]
    pub fn with_all<'n, 'v>(self, pairs: impl IntoIterator<Item = (&'n str, &'v str)>) -> Self {
        pairs.into_iter().fold(self, |query, (name, value)| query.with(name, value))
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
