//! Bearer tokens: any bytes, and any header and claims under a signature that is right.
//!
//! An input with a line end is a header and claims, to be signed with each of the agent's keys; any other is the value of an
//! `Authorization` header. What is accepted has a signature that other code finds right too, by the algorithm of the key, and claims that
//! a second reading of RFC 7519 finds right; with the usual headers that reading and the agent's agree on every refusal as well.
#![no_main]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use nodeaudit::auth::{
    Credential, Keys, MAX_TOKEN_BYTES, Permission, RevokedTokens, Roles, Rules, SigningKey, TokenVerifier,
    VerifiedToken,
};
use nodeaudit_fuzz::{SECRET, hmac, key};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

const NOW_S: i64 = 1_767_225_600;
const LEEWAY_S: u8 = 5;
const ISSUER: &str = "issuer";
const AUDIENCE: &str = "fleet";
const REVOKED: &str = "called-back";

/// A key of the agent, and what signs for it.
struct Signer {
    algorithm: &'static str,
    /// The header that issuers send.
    header: &'static [u8],
    sign: fn(&[u8]) -> Vec<u8>,
    /// Whether it is the signature, by other code than the agent's.
    verify: fn(&[u8], &[u8]) -> bool,
}

const SIGNERS: [Signer; 3] = [
    Signer {
        algorithm: "HS256",
        header: br#"{"typ":"JWT","alg":"HS256"}"#,
        sign: |message| hmac(SECRET, message),
        verify: |message, signature| hmac(SECRET, message) == signature,
    },
    Signer {
        algorithm: "EdDSA",
        header: br#"{"typ":"JWT","alg":"EdDSA","kid":"ed"}"#,
        sign: |message| ED.sign(message).as_ref().to_vec(),
        verify: |message, signature| {
            UnparsedPublicKey::new(&ED25519, ED.public_key()).verify(message, signature).is_ok()
        },
    },
    Signer {
        algorithm: "ES256",
        header: br#"{"typ":"JWT","alg":"ES256","kid":"ec"}"#,
        sign: |message| EC.sign(&SystemRandom::new(), message).expect("random bytes").as_ref().to_vec(),
        verify: |message, signature| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, EC.public_key()).verify(message, signature).is_ok()
        },
    },
];

// Their keys are new in each process: no input can hold a signature by them that was not made for it.
static ED_DOCUMENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random bytes").as_ref().to_vec());
static ED: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_pkcs8(&ED_DOCUMENT).expect("ring reads what it writes"));
static EC_DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("random bytes").as_ref().to_vec()
});
static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &EC_DOCUMENT, &SystemRandom::new())
        .expect("ring reads what it writes")
});

static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let named = |document: &[u8], kid: &str| {
        SigningKey::from_pkcs8(document).expect("ring wrote it").named(Some(kid.to_owned())).verifying().clone()
    };
    // RFC 7515, appendix A.2: nobody here has its private half, so nothing signed by it can be accepted.
    let rsa = br#"{"kty":"RSA","kid":"rsa","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
    let rsa = Keys::parse(rsa, None).expect("it is a key").remove(0);
    let keys = Keys::of(vec![key().verifying().clone(), named(&ED_DOCUMENT, "ed"), named(&EC_DOCUMENT, "ec"), rsa]);
    let rules = Rules {
        leeway_s: LEEWAY_S,
        max_lifetime_s: Some(MAX_LIFETIME_S),
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![AUDIENCE.to_owned()],
    };
    TokenVerifier::new(keys, Roles::new(&Default::default()), rules, revoked())
});

const MAX_LIFETIME_S: u32 = 900;

fn revoked() -> RevokedTokens {
    std::iter::once(REVOKED.to_owned()).collect()
}

fuzz_target!(|input: &[u8]| {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => SIGNERS.iter().for_each(|signer| signed(signer, &input[..end], &input[end + 1..])),
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
        let is_signed = SIGNERS.iter().any(|signer| (signer.verify)(message.as_bytes(), &signature));
        assert!(is_signed, "accepted with another signature: {token}");
        assert!(token.len() <= MAX_TOKEN_BYTES);
    }
}

fn signed(signer: &Signer, header: &[u8], claims: &[u8]) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = (signer.sign)(message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
    let verified = VERIFIER.verify(&token, NOW_S);
    let expected = if token.len() <= MAX_TOKEN_BYTES { expected(claims) } else { None };
    match (verified, expected) {
        (Ok(token), Some(expected)) => {
            assert_eq!(token, expected);
            let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
            assert_eq!(header["alg"], signer.algorithm);
            assert!(header["crit"].is_null(), "{header}");
        }
        (Ok(token), None) => panic!("accepted: {token:?}"),
        // RFC 7519, section 4, leaves to the reader whether names may stand twice.
        (Err(error), Some(expected)) => {
            assert!(header != signer.header || has_twins(claims), "refused: {error}: {expected:?}");
        }
        (Err(_), None) => {}
    }
    // The same with a signature by a key that the agent has for another algorithm, and with one that is almost right.
    let mut altered = signature;
    altered[0] ^= 1;
    let others = SIGNERS.iter().filter(|other| other.algorithm != signer.algorithm);
    let forgeries = others.map(|other| (other.sign)(message.as_bytes())).chain([altered]);
    if header == signer.header {
        for signature in forgeries {
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert!(VERIFIER.verify(&forged, NOW_S).is_err(), "forged: {forged}");
        }
    }
}

/// What a token with these claims says; nothing where it is not to be accepted.
fn expected(claims: &[u8]) -> Option<VerifiedToken> {
    let claims: Map<String, Value> = serde_json::from_slice(claims).ok()?;
    let subject = text(claims.get("sub")?, 256)?;
    let roles = match claims.get("roles") {
        Some(roles) => roles.as_array()?.iter().map(|role| text(role, 64)).collect::<Option<Vec<_>>>()?,
        None => Vec::new(),
    };
    // There is a list of those that are called back.
    let token_id = text(claims.get("jti")?, 128)?;
    let optional_date = |claim| claims.get(claim).map_or(Some(None), |date| Some(Some(seconds(date)?)));
    let (expires_at_s, not_before_s) = (seconds(claims.get("exp")?)?, optional_date("nbf")?);
    let issued_at_s = seconds(claims.get("iat")?)?;
    let has_begun = |begin_s: i64| begin_s <= NOW_S + i64::from(LEEWAY_S);
    let is_in_time = i128::from(NOW_S) < i128::from(expires_at_s) + i128::from(LEEWAY_S)
        && not_before_s.is_none_or(has_begun)
        && has_begun(issued_at_s)
        && i128::from(expires_at_s) - i128::from(issued_at_s) <= i128::from(MAX_LIFETIME_S);
    let audiences = match claims.get("aud")? {
        Value::Array(audiences) => audiences.iter().map(|one| text(one, 256)).collect::<Option<Vec<_>>>()?,
        one => vec![text(one, 256)?],
    };
    let is_for_us = audiences.len() <= 32 && audiences.iter().any(|audience| audience == AUDIENCE);
    let is_welcome = is_for_us && text(claims.get("iss")?, 256)? == ISSUER && token_id != REVOKED;
    if roles.len() > 32 || !is_in_time || !is_welcome {
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
    Some(VerifiedToken { subject, roles, permissions, token_id: Some(token_id), expires_at_s })
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
            || "\u{61c}\u{200b}\u{200e}\u{200f}\u{2060}\u{feff}".contains(character)
    };
    (!text.is_empty() && text.len() <= max_bytes && !text.contains(acts)).then(|| text.to_owned())
}

#[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is as good as its end")]
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| Some(value.as_f64()?.floor() as i64))
}
