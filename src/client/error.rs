//! Why a call to an agent gave nothing.

use std::io;
use std::time::Duration;

use super::text::one_line;

/// Characters of a text of the agent's that are shown.
const SHOWN_CHARACTERS: usize = 500;

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection comes about.
    #[error("can't reach {target}")]
    Unreachable {
        /// The agent.
        target: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("{target}: {what} takes longer than {} s", limit.as_secs())]
    Late {
        /// The agent.
        target: String,
        /// What does.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// No TLS comes about: one of the two does not trust the other.
    #[error("no TLS with {target}")]
    Tls {
        /// The agent.
        target: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection ends or fails in the middle.
    #[error("the connection to {target} broke")]
    Broken {
        /// The agent.
        target: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// What came is not what an agent says.
    #[error("{target} does not answer as an agent does: {what}")]
    Foreign {
        /// Who answered.
        target: String,
        /// What is wrong.
        what: String,
    },
    /// What came is more than it may be.
    #[error("{target} sends more than {max_bytes} bytes for {what}")]
    TooLarge {
        /// Who sends.
        target: String,
        /// For what.
        what: &'static str,
        /// The limit.
        max_bytes: u64,
    },
    /// The agent answered with an error.
    #[error("{target} refuses: {problem}")]
    Refused {
        /// The agent.
        target: String,
        /// What it says.
        problem: Problem,
    },
}

/// An error as an agent tells it, harmless to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {text}")]
pub struct Problem {
    /// The status.
    pub status: u16,
    /// What the agent says of it.
    pub text: String,
    /// After how many seconds to come again, where it says so.
    pub retry_after_s: Option<u64>,
}

/// The body of an error.
#[derive(serde::Deserialize)]
struct Body {
    #[serde(default)]
    error: String,
    #[serde(default)]
    details: String,
}

impl Problem {
    /// What an answer with that status says. What is no error of an agent's is told in its own words.
    pub(super) fn new(status: u16, body: &[u8], retry_after_s: Option<u64>) -> Self {
        let text = match serde_json::from_slice::<Body>(body) {
            Ok(Body { error, details }) => format!("{error} {details}"),
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let text = one_line(text.trim(), SHOWN_CHARACTERS);
        let text = if text.is_empty() { "without a reason".to_owned() } else { text };
        Self { status, text, retry_after_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_without_what_acts_on_a_terminal() {
        let body = br#"{"error":"Forbidden.","details":"The permission \u001b[31m is required.","code":403}"#;
        assert_eq!(Problem::new(403, body, None).to_string(), "403 Forbidden. The permission \\u{1b}[31m is required.");
        assert_eq!(Problem::new(502, b"<html>\r\n\x07\xff", None).to_string(), "502 <html>\\r\\n\\u{7}\u{fffd}");
        assert_eq!(Problem::new(500, b"", None).to_string(), "500 without a reason");
        assert_eq!(Problem::new(500, "x".repeat(9_999).as_bytes(), None).text.chars().count(), SHOWN_CHARACTERS + 1);
    }
}
