//! The token that a caller shows.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::auth::{FileError, GuardedFile, MAX_TOKEN_BYTES};

/// A bearer token; its memory is wiped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file is not one to be used.
    #[error("can't use the token file")]
    File(#[from] FileError),
    /// It is no token.
    #[error("{0} does not hold a token: it must be one line of printable ASCII, at most {MAX_TOKEN_BYTES} bytes")]
    Form(String),
}

impl Secret {
    /// The token in a file that nobody else can read.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let file = GuardedFile::open(path)?;
        file.check_secret()?;
        // A line end may follow.
        let text = file.read(MAX_TOKEN_BYTES + 2)?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        Self::new(text).ok_or_else(|| SecretError::Form(path.display().to_string()))
    }

    /// The token in an environment variable.
    pub fn in_variable(name: &str, value: &str) -> Result<Self, SecretError> {
        Self::new(value).ok_or_else(|| SecretError::Form(format!("the variable {name}")))
    }

    fn new(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        let is_token =
            !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_without_anything_that_could_end_a_header() {
        assert_eq!(Secret::new("a.b.c\n").unwrap().as_str(), "a.b.c");
        for text in ["", "\n", "a b", "a\nb", "a\r\nX: y", "\u{e4}", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(Secret::new(text).is_none(), "{text:?}");
        }
        assert!(!format!("{:?}", Secret::new("a.b.c")).contains("a.b"));
    }
}
