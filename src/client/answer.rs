//! The answer of an agent to one request.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::caller::{Caller, malformed};
use super::connection::Head;
use super::error::ClientError;
use super::input::Input;
use super::text::one_line;

/// An answer whose body is to be read. The connection is used again once all of it was.
pub struct Answer<'a> {
    pub(super) caller: &'a mut Caller,
    /// None after the end.
    pub(super) input: Option<Input>,
    pub(super) head: Head,
}

/// Where other pages of a list are: queries, to be put behind the path of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The next page, with its question mark.
    pub next: Option<String>,
}

impl Answer<'_> {
    /// Its status: 200, or 304.
    pub const fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of that name, which is in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Where other pages are (RFC 8288).
    pub fn links(&self) -> Result<Links, ClientError> {
        let Some(header) = self.header("link") else { return Ok(Links::default()) };
        Links::parse(header).ok_or_else(|| self.caller.foreign(format!("its Link is none: {}", one_line(header, 100))))
    }

    /// The next piece of the body; none at its end. It must come within the time that a piece may take.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let limit = self.caller.limits.piece;
        self.next_until(Instant::now() + limit, limit, "the answer").await
    }

    /// The whole body, which must have come within the time that a whole answer may take.
    pub async fn whole(mut self, max_bytes: usize, what: &'static str) -> Result<Vec<u8>, ClientError> {
        let limit = self.caller.limits.whole;
        let deadline = Instant::now() + limit;
        let mut whole = Vec::new();
        while let Some(piece) = self.next_until(deadline, limit, what).await? {
            if whole.len() + piece.len() > max_bytes {
                let target = self.caller.target.to_string();
                return Err(ClientError::TooLarge { target, what, max_bytes: max_bytes as u64 });
            }
            whole.extend(piece);
        }
        Ok(whole)
    }

    async fn next_until(
        &mut self,
        deadline: Instant,
        limit: Duration,
        what: &'static str,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let piece = timeout_at(deadline, self.head.body.next(input)).await;
        let piece = piece.map_err(|_| ClientError::Late { target: self.caller.target.to_string(), what, limit })?;
        let piece = piece.map_err(|error| malformed(&self.caller.target, error))?;
        if self.head.body.has_ended() {
            // The last piece of what is packed comes after the end of what is sent.
            let input = self.input.take_if(|_| piece.is_none());
            self.caller.idle = input.filter(|_| self.head.is_kept);
        }
        Ok(piece)
    }
}

impl Links {
    /// Reads the header. Links that are no query of the same list are none.
    fn parse(header: &str) -> Option<Self> {
        let mut links = Self::default();
        let mut rest = header.trim();
        while !rest.is_empty() {
            let (reference, after) = rest.strip_prefix('<')?.split_once('>')?;
            let (parameters, after) = after.split_once(',').unwrap_or((after, ""));
            if parameters.contains("rel=\"next\"") {
                let is_query = reference.starts_with('?') && reference.bytes().all(|byte| byte.is_ascii_graphic());
                links.next = Some(reference.to_owned()).filter(|_| is_query && !reference.contains('#'));
                links.next.as_ref()?;
            }
            rest = after.trim();
        }
        Some(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_query_of_the_same_list_or_none() {
        let next = |header| Links::parse(header).map(|links| links.next);
        assert_eq!(
            next("<?limit=5&before=7>; rel=\"next\", <?limit=5>; rel=\"first\""),
            Some(Some("?limit=5&before=7".into()))
        );
        assert_eq!(next("<?limit=5>; rel=\"first\""), Some(None));
        assert_eq!(next(""), Some(None));
        for header in [
            "<http://evil/?x>; rel=\"next\"",
            "</audit?x>; rel=\"next\"",
            "<?x y>; rel=\"next\"",
            "<?x",
            "x",
            "<?a#b>; rel=\"next\"",
        ] {
            assert_eq!(next(header), None, "{header}");
        }
    }
}
