//! What a token's header says (RFC 7515, section 4): which key and algorithm are meant, and that nothing else is asked for.
//!
//! Nothing in a header says where a key is or what is to be trusted: `jku`, `x5u`, `jwk` and their kin are never looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};

use super::members::Members;
use super::token::TokenError;

/// Types of tokens for access, as media types without `application/`.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// The header of a token that this agent understands.
pub(super) struct TokenHeader {
    /// What it says of its signature.
    pub algorithm: Algorithm,
    /// The name of its key.
    pub kid: Option<String>,
}

impl TokenHeader {
    /// That of `token`, whose signature nobody has looked at.
    pub(super) fn of(token: &str) -> Result<Self, TokenError> {
        let (encoded, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let text = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed)?;
        let Members(members) = serde_json::from_slice(&text).map_err(|_| TokenError::Malformed)?;
        check_type(&members)?;
        // No extension is understood, so none may be critical (section 4.1.11).
        if members.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let text = |name| members.get(name).map(|value| value.as_str().ok_or(TokenError::Malformed)).transpose();
        let algorithm = text("alg")?.and_then(|name| name.parse().ok()).ok_or(TokenError::Malformed)?;
        Ok(Self { algorithm, kid: text("kid")?.map(str::to_owned) })
    }

    /// As it stands in a token.
    pub(super) fn encoded(&self) -> String {
        let mut members = json!({ "typ": "JWT", "alg": self.algorithm });
        if let Some(kid) = &self.kid {
            members["kid"] = json!(kid);
        }
        URL_SAFE_NO_PAD.encode(members.to_string())
    }
}

/// A token for something else, such as an ID token or a logout token, must not be taken for one for access (RFC 8725, 3.11). A type
/// without a slash has `application/` before it, in any case of letters (section 4.1.9).
fn check_type(members: &Map<String, Value>) -> Result<(), TokenError> {
    let Some(kind) = members.get("typ") else { return Ok(()) };
    let kind = kind.as_str().ok_or(TokenError::Type)?.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    if TYPES.contains(&kind) { Ok(()) } else { Err(TokenError::Type) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(header: &str) -> String {
        let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        match TokenHeader::of(&token) {
            Ok(TokenHeader { algorithm, kid }) => format!("{algorithm:?} {}", kid.as_deref().unwrap_or("-")),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn what_names_key_and_algorithm_is_read_and_the_rest_is_not() {
        assert_eq!(told(r#"{"alg":"HS256"}"#), "HS256 -");
        assert_eq!(told(r#"{"alg":"EdDSA","kid":"a","jku":"x","jwk":7,"other":null}"#), "EdDSA a");
        for kind in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT", "application/jwt"] {
            assert_eq!(told(&format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#)), "HS256 -", "{kind}");
        }
    }

    #[test]
    fn null_is_a_value() {
        assert_eq!(told(r#"{"alg":"HS256","crit":null}"#), "Critical");
        assert_eq!(told(r#"{"alg":"HS256","typ":null}"#), "Type");
        assert_eq!(told(r#"{"alg":"HS256","kid":null}"#), "Malformed");
        assert_eq!(told(r#"{"alg":null}"#), "Malformed");
    }

    #[test]
    fn another_type_or_form_is_refused() {
        for kind in [
            "",
            "JOSE",
            "logout+jwt",
            "JWT ",
            "application/",
            "application/application/jwt",
            "text/jwt",
            "/jwt",
            "at jwt",
        ] {
            assert_eq!(told(&format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#)), "Type", "{kind}");
        }
        assert_eq!(told(r#"{"alg":"HS256","typ":["JWT"]}"#), "Type");
        for header in [
            "",
            "{}",
            "[]",
            r#"["HS256"]"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256","x":1,"x":1}"#,
            r#"{"alg":"HS256","kid":7}"#,
        ] {
            assert_eq!(told(header), "Malformed", "{header}");
        }
        assert!(matches!(TokenHeader::of("e30"), Err(TokenError::Malformed)));
        assert!(matches!(TokenHeader::of("e30=.e30.AAAA"), Err(TokenError::Malformed)));
    }
}
