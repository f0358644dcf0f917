//! What a request brings to prove who calls: the value of its `Authorization` header.
//!
//! Only syntax (RFC 9110, section 11.6.2; RFC 6750, section 2.1). Whether a token is worth anything is decided in `token`.

/// What stands in the `Authorization` header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// There is no such header: the caller is anonymous.
    None,
    /// One bearer token, so far unverified.
    Bearer(&'a str),
    /// Something else, and why it can't be used. The reason holds nothing of the header.
    Unusable(&'static str),
}

impl<'a> Credential<'a> {
    /// The credential in all `Authorization` headers of a request.
    ///
    /// More than one is unusable: which of them counts would depend on who looks.
    pub fn parse(headers: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut headers = headers.into_iter();
        match (headers.next(), headers.next()) {
            (None, _) => Self::None,
            (Some(value), None) => Self::parse_one(value),
            (Some(_), Some(_)) => Self::Unusable("there is more than one Authorization header"),
        }
    }

    fn parse_one(value: &'a [u8]) -> Self {
        let Ok(value) = std::str::from_utf8(value) else {
            return Self::Unusable("the Authorization header is not text");
        };
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Self::Unusable("the Authorization header has another scheme than Bearer");
        }
        // One space or more before the token; those around the value are the HTTP library's to trim.
        let token = rest.trim_matches(' ');
        if token.is_empty() {
            return Self::Unusable("the Authorization header has no token");
        }
        if !is_b64token(token) {
            return Self::Unusable("the Authorization header must have exactly one token after Bearer");
        }
        Self::Bearer(token)
    }
}

/// Whether a byte can stand in a `b64token` before its padding.
const fn is_in_b64token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// `b64token` of RFC 6750, section 2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    // Without a way out of the loop: each call brings some hundred bytes, and so the compiler looks at many at once.
    !body.is_empty() && body.bytes().fold(true, |all, byte| all & is_in_b64token(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Credential<'_> {
        Credential::parse([value.as_bytes()])
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer   a.b.c"] {
            assert_eq!(parsed(value), Credential::Bearer("a.b.c"), "{value}");
        }
        assert_eq!(parsed("Bearer YQ=="), Credential::Bearer("YQ=="));
    }

    #[test]
    fn no_header_is_an_anonymous_caller() {
        assert_eq!(Credential::parse([]), Credential::None);
    }

    #[test]
    fn anything_but_exactly_one_token_is_unusable() {
        let values = [
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Bearera.b.c",
            "Bearer\ta.b.c",
            "Bearer a.b.c d.e.f",
            "Bearer a.b.c, Bearer d.e.f",
            "Bearer \"a.b.c\"",
            "Bearer ===",
            "Bearer a=b",
            "Bearer a.b.ç",
            "Basic YTpi",
            "a.b.c",
            " Bearer a.b.c",
        ];
        for value in values {
            assert!(matches!(parsed(value), Credential::Unusable(_)), "{value:?}");
        }
        assert!(matches!(Credential::parse([&b"Bearer \xff"[..]]), Credential::Unusable(_)));
    }

    #[test]
    fn a_second_header_makes_both_unusable() {
        let twice = Credential::parse([&b"Bearer a.b.c"[..], &b"Bearer a.b.c"[..]]);
        assert!(matches!(twice, Credential::Unusable(_)));
    }
}
