//! Whether anything is new: `ETag`, `If-None-Match` (RFC 9110, section 8.8.3 and 13.1.2), and waiting for news.
//!
//! Known from memory alone, so that a poll of a log in which nothing happened touches no file. Reading the log is not news: it
//! adds entries, but those of a poller would wake him for ever. So an answer is as good as one with some more of them, which a
//! weak tag may say.

use std::fmt;
use std::time::Duration;

use actix_web::http::header::{ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, Responder, body::BoxBody};
use tokio::time::{Instant, timeout_at};

use super::encoding::VARIES;
use super::{ApiError, AppState};
use crate::audit::Seq;
use crate::decimal;

/// The longest that a call may ask to wait for news.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What is news, as far as this agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// The run of the agent.
    run: u32,
    /// How often the ring was replaced in it.
    generation: u64,
    /// The newest entry that is no reading of the log.
    pub(super) news: Seq,
}

impl Tag {
    /// The state of the log now; with what is not on stable storage yet.
    pub(super) fn now(state: &AppState) -> Self {
        let (run, news) = (state.writer.run_tag(), state.writer.news());
        Self { run, generation: state.reader.generation(), news }
    }

    /// Whether the caller has an answer as of this state.
    pub(super) fn is_known_to(self, request: &HttpRequest) -> bool {
        let ours = self.to_string();
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let named = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
        named.flat_map(|tags| tags.split(',')).any(|tag| tag.trim() == "*" || opaque(tag) == opaque(&ours))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W/\"{:06x}-{}-{}\"", self.run, self.generation, self.news.0)
    }
}

/// How long a call waits for news.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(Option<Instant>);

impl Patience {
    /// The call does not wait.
    pub(super) const NONE: Self = Self(None);

    /// What `wait` asks for, such as `30s`. A handler has its own deadline, so that waiting ends well before it.
    pub(super) fn parse(wait: Option<&str>, handler_timeout: Duration) -> Result<Self, ApiError> {
        let Some(text) = wait else { return Ok(Self::NONE) };
        let wait = text.strip_suffix('s').and_then(decimal::parse).map(Duration::from_secs);
        let wait = wait.filter(|wait| *wait <= WAIT_MAX);
        let wrong = || ApiError::BadRequest("wait takes 0s to 60s.".to_owned());
        Ok(Self(Some(Instant::now() + wait.ok_or_else(wrong)?.min(handler_timeout * 4 / 5))))
    }

    /// Whether the call waits.
    pub(super) const fn is_some(self) -> bool {
        self.0.is_some()
    }

    /// Waits until an entry after that one is stored which is news. Gives whether one is; otherwise the time is over, or the agent stops.
    pub(super) async fn news_after(self, state: &AppState, seen: Seq) -> News {
        let Some(deadline) = self.0 else { return News::None };
        let _open = state.open_calls.poll();
        let mut stored = state.writer.stored_news();
        match timeout_at(deadline, stored.wait_for(|news| *news > Some(seen) || news.is_none())).await {
            Ok(Ok(news)) if news.is_some() => News::Some,
            _ => News::None,
        }
    }
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There is something new.
    Some,
    /// There is not.
    None,
}

/// An answer, or that the caller has it already.
pub(super) enum Fresh<T> {
    /// Nothing is new.
    Known(Tag),
    /// This is the answer, as of that state if it can be told.
    Answer(Option<Tag>, T),
}

impl<T: Responder<Body = BoxBody>> Responder for Fresh<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        match self {
            // With what a cache needs to know which of its answers is meant (RFC 9110, section 15.4.5).
            Self::Known(tag) => {
                HttpResponse::NotModified().insert_header((ETAG, tag.to_string())).insert_header(VARIES).finish()
            }
            Self::Answer(tag, answer) => {
                let mut response = answer.respond_to(request);
                if let Some(tag) = tag {
                    let value = tag.to_string().try_into().expect("a tag is ASCII");
                    response.headers_mut().insert(ETAG, value);
                }
                response
            }
        }
    }
}
