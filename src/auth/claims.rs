//! What a token says: its claims, each of the type and within the limits that this agent accepts.
//!
//! Owns those limits: a claim of a wrong JSON type is refused, not skipped. Knows neither keys nor the clock. No message holds a claim's
//! value.

use serde::Serialize;
use serde_json::{Map, Value};

use super::members::Members;

/// Bytes that a subject has at most.
const MAX_SUBJECT_BYTES: usize = 256;
/// Roles that a token names at most.
const MAX_ROLES: usize = 32;
/// Bytes that the name of a role has at most.
const MAX_ROLE_BYTES: usize = 64;
/// Bytes that a token's ID has at most.
const MAX_TOKEN_ID_BYTES: usize = 128;
/// Bytes that the name of an issuer or an audience has at most.
const MAX_PARTY_BYTES: usize = 256;
/// Audiences that a token names at most.
const MAX_AUDIENCES: usize = 32;

/// The claims of a token (RFC 7519, section 4.1, and two private ones).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Claims {
    /// Who calls: 1 to 256 bytes without control characters.
    pub sub: String,
    /// Names of roles: at most 32, each of 1 to 64 bytes without control characters.
    pub roles: Vec<String>,
    /// Names of permissions. Present, they replace what the roles stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// The first second at which the token is not accepted any more, counted from 1970.
    pub exp: i64,
    /// The first second at which the token is accepted, counted from 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When the token was issued, in seconds from 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// The token's own ID: at most 128 bytes without control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Who issued the token: 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom it is: one name or a list of at most 32, each of 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Vec<String>>,
}

/// A claim that is missing, of a wrong type, or beyond its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token's claim {claim:?} {problem}")]
pub struct ClaimError {
    /// The name of the claim.
    pub claim: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Claims {
    /// Whether every claim is within its limits.
    pub(super) fn check(&self) -> Result<(), ClaimError> {
        check_text("sub", &self.sub, MAX_SUBJECT_BYTES)?;
        if self.roles.len() > MAX_ROLES {
            return Err(refused("roles", "names more than 32 roles"));
        }
        for role in &self.roles {
            check_text("roles", role, MAX_ROLE_BYTES)?;
        }
        if self.aud.as_ref().is_some_and(|audiences| audiences.len() > MAX_AUDIENCES) {
            return Err(refused("aud", "names more than 32 audiences"));
        }
        for audience in self.aud.iter().flatten() {
            check_text("aud", audience, MAX_PARTY_BYTES)?;
        }
        if let Some(issuer) = &self.iss {
            check_text("iss", issuer, MAX_PARTY_BYTES)?;
        }
        self.jti.as_deref().map_or(Ok(()), check_token_id)
    }
}

/// Whether this can be a token's ID.
pub(super) fn check_token_id(id: &str) -> Result<(), ClaimError> {
    check_text("jti", id, MAX_TOKEN_ID_BYTES)
}

/// Unknown claims are ignored (RFC 7519, section 4). `null` is a value and not an absent claim: a `permissions` of `null` must not turn
/// into all that the roles hold.
impl TryFrom<Members> for Claims {
    type Error = ClaimError;

    fn try_from(Members(mut claims): Members) -> Result<Self, ClaimError> {
        let claims = Self {
            sub: required("sub", &mut claims, text)?,
            roles: optional("roles", &mut claims, texts)?.unwrap_or_default(),
            permissions: optional("permissions", &mut claims, texts)?,
            exp: required("exp", &mut claims, numeric_date)?,
            nbf: optional("nbf", &mut claims, numeric_date)?,
            iat: optional("iat", &mut claims, numeric_date)?,
            jti: optional("jti", &mut claims, text)?,
            iss: optional("iss", &mut claims, text)?,
            aud: optional("aud", &mut claims, text_or_texts)?,
        };
        claims.check()?;
        Ok(claims)
    }
}

/// A claim's value out of its JSON, or what it must be.
type Reading<T> = fn(Value) -> Result<T, &'static str>;

fn optional<T>(
    claim: &'static str,
    claims: &mut Map<String, Value>,
    read: Reading<T>,
) -> Result<Option<T>, ClaimError> {
    let value = claims.remove(claim);
    value.map(|value| read(value).map_err(|problem| refused(claim, problem))).transpose()
}

fn required<T>(claim: &'static str, claims: &mut Map<String, Value>, read: Reading<T>) -> Result<T, ClaimError> {
    optional(claim, claims, read)?.ok_or(missing(claim))
}

fn text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("is not a string"),
    }
}

fn texts(value: Value) -> Result<Vec<String>, &'static str> {
    let Value::Array(values) = value else {
        return Err("is not a list of strings");
    };
    let texts = values.into_iter().map(text).collect::<Result<_, _>>();
    texts.map_err(|_| "is not a list of strings")
}

fn text_or_texts(value: Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::String(text) => Ok(vec![text]),
        value => texts(value).map_err(|_| "is neither a string nor a list of strings"),
    }
}

/// `NumericDate` of RFC 7519, section 2: seconds from 1970, a fraction allowed and here cut off.
fn numeric_date(value: Value) -> Result<i64, &'static str> {
    let Value::Number(number) = value else {
        return Err("is not a number");
    };
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as a comparison of times needs it")]
    let cut = |seconds: f64| seconds.floor() as i64;
    number.as_i64().or_else(|| number.as_f64().map(cut)).ok_or("is not a number")
}

fn check_text(claim: &'static str, text: &str, max_bytes: usize) -> Result<(), ClaimError> {
    if text.is_empty() {
        return Err(refused(claim, "is empty"));
    }
    if text.len() > max_bytes {
        return Err(refused(claim, "is too long"));
    }
    if text.chars().any(is_unprintable) {
        return Err(refused(claim, "holds control characters"));
    }
    Ok(())
}

/// Characters that could change how a line of a log or a table looks, or make two texts look alike: C0, DEL and C1 controls, line and
/// paragraph separators, what turns the direction of reading (UAX 9, section 2), and what has neither shape nor width. The two joiners
/// are none of them: scripts need them.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

pub(super) const fn missing(claim: &'static str) -> ClaimError {
    refused(claim, "is missing")
}

const fn refused(claim: &'static str, problem: &'static str) -> ClaimError {
    ClaimError { claim, problem }
}
