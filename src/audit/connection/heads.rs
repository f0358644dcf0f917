//! What heads tell where nobody parses them: what a request asked for, and whether an answer is the HTTP library's own.

use crate::audit::redact::{self, bounded};

/// An answer of the HTTP library's own, after which it closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnAnswer {
    /// Its status code.
    pub(super) code: u16,
    /// Whether it says that the connection ends. The library leaves that out where the request before it asked to go on.
    pub(super) tells_end: bool,
}

/// The library's own answer, if that is what was written last: a status line of 4xx or 5xx and nothing but the three headers of an
/// answer without a body. No response body of ours can end like that: JSON holds no line break.
pub(super) fn own_answer(tail: &[u8]) -> Option<OwnAnswer> {
    let tail = tail.strip_suffix(b"\r\n\r\n")?;
    let begin = tail.windows(9).rposition(|bytes| bytes == b"HTTP/1.1 " || bytes == b"HTTP/1.0 ")?;
    let head = std::str::from_utf8(&tail[begin..]).ok()?;
    let mut lines = head.split("\r\n");
    let code = lines.next()?.split(' ').nth(1)?;
    let code = if code.len() == 3 { code.parse().ok().filter(|code| (400..600).contains(code))? } else { return None };
    let (mut is_empty, mut tells_end) = (false, false);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => is_empty = value == "0",
            "connection" => tells_end = value == "close",
            "date" => {}
            _ => return None,
        }
    }
    is_empty.then_some(OwnAnswer { code, tells_end })
}

/// Method and path as far as a head's first line tells them: nothing where it may be anything else, such as a part of a body.
pub(super) fn asked_for(head: &[u8]) -> (String, String) {
    let line = head.trim_ascii_start().split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let method = words.next().unwrap_or_default();
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Default::default();
    }
    // Neither a query nor a fragment is ever stored, nor a target that can hold a password.
    let path = words.next().and_then(|target| target.split(|&byte| byte == b'?' || byte == b'#').next());
    let path = path.filter(|path| path.starts_with(b"/") || *path == b"*").unwrap_or_default();
    let text = |bytes, max_bytes| bounded(&String::from_utf8_lossy(bytes), max_bytes);
    (text(method, redact::METHOD_MAX_BYTES), text(path, redact::PATH_MAX_BYTES))
}

/// What stands in place of method and path where a TLS handshake failed: no request has such a path.
pub(super) fn failed_handshake(why: &str) -> (String, String) {
    ("TLS".to_owned(), bounded(&format!("handshake: {why}"), redact::PATH_MAX_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_own_answer_is_known_by_its_form() {
        let own = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: x\r\n\r\n";
        assert_eq!(own_answer(own), Some(OwnAnswer { code: 400, tells_end: true }));
        let silent = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(own_answer(silent), Some(OwnAnswer { code: 400, tells_end: false }));
        let after_another = [&b"HTTP/1.1 200 OK\r\naudit-id: x\r\ncontent-length: 2\r\n\r\n{}"[..], own].concat();
        assert_eq!(own_answer(&after_another).map(|answer| answer.code), Some(400));
        let others: [&[u8]; 8] = [
            b"{\"user_agent\":\"HTTP/1.1 500 x\"}]}\r\n0\r\n\r\n",
            b"HTTP/1.1 60000 x\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"",
            b"HTTP/1.1 404 Not Found\r\nAudit-Id: x\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
        ];
        for tail in others {
            assert_eq!(own_answer(tail), None, "{}", String::from_utf8_lossy(tail));
        }
    }

    #[test]
    fn method_and_path_are_read_from_whatever_came() {
        let asked = |head: &[u8]| asked_for(head);
        let told = |method: &str, path: &str| (method.to_owned(), path.to_owned());
        assert_eq!(asked(b"GET /node/hostname?token=secret HTTP/1.1\r\nHo"), told("GET", "/node/hostname"));
        assert_eq!(asked(b"\r\nGET /a"), told("GET", "/a"));
        assert_eq!(asked(b"GET"), told("GET", ""));
        assert_eq!(asked(b"GET /\x1b[31m\xff HTTP/1.1"), told("GET", "/\\u{1b}[31m\u{fffd}"));
        assert_eq!(asked(b"\x16\x03\x01\x02 /"), told("", ""));
        assert_eq!(asked(b""), told("", ""));
        for secret in
            ["GET http://user:HUNTER2@h/ HTTP/9", "POST HUNTER2 x HTTP/1.1", "password HUNTER2", "GET /a#HUNTER2"]
        {
            let (method, path) = asked(secret.as_bytes());
            assert!(!format!("{method} {path}").contains("HUNTER2"), "{secret}");
        }
    }
}
