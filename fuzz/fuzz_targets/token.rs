//! Bearer tokens: any bytes, and any header and claims under a signature that is right.
//!
//! An input with a line end is a header and claims, to be signed with the agent's key; any other is the value of an `Authorization`
//! header. What is accepted has a signature that other code finds right too, and claims that a second reading of RFC 7519 finds
//! right; with the usual header that reading and the agent's agree on every refusal as well.
#![no_main]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use nodeaudit::auth::{Credential, MAX_TOKEN_BYTES, Permission, Roles, TokenVerifier, VerifiedToken};
use nodeaudit_fuzz::{SECRET, hmac, key};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

const NOW_S: i64 = 1_767_225_600;
const LEEWAY_S: u8 = 5;
/// The header that issuers send.
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;

static VERIFIER: LazyLock<TokenVerifier> =
    LazyLock::new(|| TokenVerifier::new(&key(), Roles::new(&Default::default()), LEEWAY_S));

fuzz_target!(|input: &[u8]| {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => signed(&input[..end], &input[end + 1..]),
        None => {
            if let Credential::Bearer(token) = Credential::parse([input]) {
                unknown(token);
            }
        }
    }
});

/// A token of which nothing is known.
fn unknown(token: &str) {
    for now_s in [i64::MIN, 0, NOW_S, i64::MAX] {
        if VERIFIER.verify(token, now_s).is_err() {
            continue;
        }
        let (message, signature) = token.rsplit_once('.').expect("a token has a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("a signature is base64url");
        assert_eq!(signature, hmac(SECRET, message.as_bytes()), "accepted with another signature: {token}");
        assert!(token.len() <= MAX_TOKEN_BYTES);
    }
}

fn signed(header: &[u8], claims: &[u8]) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac(SECRET, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
    let verified = VERIFIER.verify(&token, NOW_S);
    let expected = if token.len() <= MAX_TOKEN_BYTES { expected(claims) } else { None };
    match (verified, expected) {
        (Ok(token), Some(expected)) => {
            assert_eq!(token, expected);
            let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
            assert_eq!(header["alg"], "HS256");
            assert!(header["crit"].is_null(), "{header}");
        }
        (Ok(token), None) => panic!("accepted: {token:?}"),
        // RFC 7519, section 4, leaves to the reader whether names may stand twice.
        (Err(error), Some(expected)) => {
            assert!(header != HEADER || has_twins(claims), "refused: {error}: {expected:?}");
        }
        (Err(_), None) => {}
    }
    let other = hmac(&SECRET[1..], message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
    assert!(VERIFIER.verify(&forged, NOW_S).is_err(), "forged: {forged}");
}

/// What a token with these claims says; nothing where it is not to be accepted.
fn expected(claims: &[u8]) -> Option<VerifiedToken> {
    let claims: Map<String, Value> = serde_json::from_slice(claims).ok()?;
    let subject = text(claims.get("sub")?, 256)?;
    let roles = match claims.get("roles") {
        Some(roles) => roles.as_array()?.iter().map(|role| text(role, 64)).collect::<Option<Vec<_>>>()?,
        None => Vec::new(),
    };
    let token_id = match claims.get("jti") {
        Some(id) => Some(text(id, 128)?),
        None => None,
    };
    let optional_date = |claim| claims.get(claim).map_or(Some(None), |date| Some(Some(seconds(date)?)));
    let (expires_at_s, not_before_s) = (seconds(claims.get("exp")?)?, optional_date("nbf")?);
    optional_date("iat")?;
    let is_in_time = i128::from(NOW_S) < i128::from(expires_at_s) + i128::from(LEEWAY_S)
        && not_before_s.is_none_or(|begin_s| begin_s <= NOW_S + i64::from(LEEWAY_S));
    if roles.len() > 32 || !is_in_time {
        return None;
    }
    let permissions = match claims.get("permissions") {
        Some(listed) => {
            let listed = listed.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
            listed.into_iter().filter_map(Permission::parse).collect()
        }
        None => {
            let known = Roles::new(&Default::default());
            roles.iter().fold(nodeaudit::auth::PermissionSet::EMPTY, |held, role| held.union(known.expand(role)))
        }
    };
    Some(VerifiedToken { subject, roles, permissions, token_id, expires_at_s })
}

/// Whether a name stands twice in these claims, which are an object.
fn has_twins(claims: &[u8]) -> bool {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                names.push(name);
            }
            Ok(names)
        }
    }

    let names = serde_json::Deserializer::from_slice(claims).deserialize_map(Names).expect("claims are an object");
    names.iter().collect::<BTreeSet<_>>().len() < names.len()
}

fn text(value: &Value, max_bytes: usize) -> Option<String> {
    let text = value.as_str()?;
    let acts = |character: char| {
        character.is_control()
            || ('\u{2028}'..='\u{202e}').contains(&character)
            || ('\u{2066}'..='\u{2069}').contains(&character)
    };
    (!text.is_empty() && text.len() <= max_bytes && !text.contains(acts)).then(|| text.to_owned())
}

#[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is as good as its end")]
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| Some(value.as_f64()?.floor() as i64))
}
