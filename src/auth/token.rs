//! Bearer tokens: JSON Web Tokens (RFC 7519) with one of four algorithms, verified and issued.
//!
//! Owns which token is accepted. Knows no clock: who asks whether a token is good brings the time. Knows no HTTP; no message holds a token
//! or a part of one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};

use super::actor::role_lines;
use super::cache::Cache;
use super::claims::{ClaimError, Claims, missing};
use super::key::{KeyAlgorithm, SigningKey, VerifyingKey};
use super::key_error::KeyError;
use super::keys::Keys;
use super::members::Members;
use super::random::random_bytes;
use super::revoked::RevokedTokens;
use super::rules::{Rules, Scope};
use super::token_header::TokenHeader;
use super::{Actor, AuthMethod, Permission, PermissionSet, Roles, crypto};

/// Bytes that a token has at most. Longer ones are refused before anything is parsed.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a token that was accepted says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Who calls; 1 to 256 bytes.
    pub subject: String,
    /// The roles as the token names them, known here or not.
    pub roles: Vec<String>,
    /// What the holder may do: the token's own permissions where it lists any, else what its roles stand for.
    pub permissions: PermissionSet,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// The token's `exp`, in seconds from 1970; the leeway not added.
    pub expires_at_s: i64,
}

/// Decides which tokens are accepted.
#[derive(Debug)]
pub struct TokenVerifier {
    keys: Keys,
    roles: Roles,
    rules: Rules,
    revoked: RevokedTokens,
    signed: Cache<Signed>,
}

/// Claims under a signature that is right, and whom they name: made once, as entries of all his calls share it.
#[derive(Debug)]
pub(super) struct Signed {
    claims: Claims,
    scope: Scope,
    actor: Arc<Actor>,
}

impl Signed {
    /// A time that has been, in seconds from 1970, where the token's issuer has a clock of his own: its `iat`, once it is accepted. A
    /// secret can be this node's own, and what it signs says no more than this node's clock.
    pub(super) fn witnessed_s(&self) -> Option<i64> {
        self.claims.iat.filter(|_| self.scope == Scope::Fleet)
    }
}

impl TokenVerifier {
    /// A verifier of tokens signed with one of `keys` that fulfil `rules` and are not `revoked`; their roles are among those `known`.
    pub fn new(keys: Keys, known: Roles, rules: Rules, revoked: RevokedTokens) -> Self {
        crypto::install();
        Self { keys, roles: known, rules, revoked, signed: Cache::new() }
    }

    /// Seconds that the clocks of issuer and node may differ.
    pub const fn leeway_s(&self) -> u8 {
        self.rules.leeway_s
    }

    /// What `token` says, if it is accepted at `now_s`, in seconds from 1970.
    pub fn verify(&self, token: &str, now_s: i64) -> Result<VerifiedToken, TokenError> {
        let signed = self.signed(token)?;
        let actor = self.accept(&signed, now_s)?;
        let claims = &signed.claims;
        Ok(VerifiedToken {
            permissions: actor.permissions,
            subject: claims.sub.clone(),
            roles: claims.roles.clone(),
            token_id: claims.jti.clone(),
            expires_at_s: claims.exp,
        })
    }

    /// Who shows a token whose signature is right, if it is accepted at `now_s`.
    pub(super) fn accept(&self, signed: &Signed, now_s: i64) -> Result<Arc<Actor>, TokenError> {
        self.rules.check(&signed.claims, signed.scope, now_s)?;
        self.check_revocation(&signed.claims)?;
        Ok(Arc::clone(&signed.actor))
    }

    /// A token without an ID could not be called back, so where others can be, it is not accepted.
    fn check_revocation(&self, claims: &Claims) -> Result<(), TokenError> {
        match &claims.jti {
            Some(id) if self.revoked.contains(id) => Err(TokenError::Revoked),
            None if self.revoked.is_there() => Err(missing("jti").into()),
            _ => Ok(()),
        }
    }

    /// The claims of a token, once its signature has been found right.
    pub(super) fn signed(&self, token: &str) -> Result<Arc<Signed>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let digest = Cache::<Signed>::digest_of(token);
        if let Some(signed) = self.signed.get(&digest) {
            return Ok(signed);
        }
        let header = TokenHeader::of(token)?;
        let key = self.keys.find(header.kid.as_deref(), header.algorithm)?;
        let claims = signed_claims(token, key)?;
        let scope = if key.algorithm() == KeyAlgorithm::Hs256 { Scope::Node } else { Scope::Fleet };
        let claims = Claims::try_from(claims)?;
        let actor = Arc::new(self.actor(&claims));
        let signed = Arc::new(Signed { claims, scope, actor });
        self.signed.insert(digest, Arc::clone(&signed));
        Ok(signed)
    }

    fn actor(&self, claims: &Claims) -> Actor {
        Actor {
            user: claims.sub.clone(),
            roles: role_lines(&claims.roles),
            token_id: claims.jti.clone(),
            auth_method: Some(AuthMethod::Bearer),
            permissions: self.permissions(claims),
            expires_at_s: Some(claims.exp.saturating_add(self.leeway_s().into())),
            refused: None,
        }
    }

    fn permissions(&self, claims: &Claims) -> PermissionSet {
        match &claims.permissions {
            Some(names) => names.iter().filter_map(|name| Permission::parse(name)).collect(),
            None => claims.roles.iter().fold(PermissionSet::EMPTY, |held, role| held.union(self.roles.expand(role))),
        }
    }
}

/// Whom a token is for, and what it gives.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// Who will call: 1 to 256 bytes without control characters.
    pub subject: String,
    /// Names of roles, at most 32.
    pub roles: Vec<String>,
    /// Where present, what the holder may do instead of what the roles stand for.
    pub permissions: Option<Vec<Permission>>,
    /// Seconds from now until the token expires.
    pub lifetime_s: u32,
    /// Who says that he issues it.
    pub issuer: Option<String>,
    /// For which node or fleet it is.
    pub audience: Option<String>,
}

/// Issues tokens: for the command line, development and the self-test. A fleet's own issuer is another program.
#[derive(Debug)]
pub struct TokenIssuer(SigningKey);

impl TokenIssuer {
    /// An issuer that signs with `key`.
    pub fn new(key: &SigningKey) -> Self {
        crypto::install();
        Self(key.clone())
    }

    /// A token that gives `grant` from `now_s` on, with a random ID.
    pub fn issue(&self, grant: &Grant, now_s: i64) -> Result<String, TokenError> {
        let claims = Claims {
            sub: grant.subject.clone(),
            roles: grant.roles.clone(),
            permissions: grant
                .permissions
                .as_ref()
                .map(|held| held.iter().map(|permission| permission.as_str().to_owned()).collect()),
            exp: now_s.saturating_add(grant.lifetime_s.into()),
            nbf: None,
            iat: Some(now_s),
            jti: Some(random_token_id()?),
            iss: grant.issuer.clone(),
            aud: grant.audience.clone().map(|audience| vec![audience]),
        };
        claims.check()?;
        let SigningKey { signing, verifying } = &self.0;
        let algorithm = verifying.algorithm().registered();
        let header = TokenHeader { algorithm, kid: verifying.kid().map(str::to_owned) };
        let claims = serde_json::to_vec(&claims).expect("texts and numbers are JSON");
        let message = format!("{}.{}", header.encoded(), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), signing, algorithm).map_err(refused)?;
        let token = format!("{message}.{signature}");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        Ok(token)
    }
}

/// Issues a token with a new key of each kind that can be made here, and verifies it; refuses it with another key. To be run before the
/// agent says that it is ready: a wrong set-up of the cryptography shows only when the first token arrives.
pub fn self_test() -> Result<(), TokenError> {
    const NOW_S: i64 = 1_000_000;
    let grant = Grant {
        subject: "self-test".to_owned(),
        permissions: Some(vec![Permission::HealthRead]),
        lifetime_s: 1,
        audience: Some("self-test".to_owned()),
        ..Grant::default()
    };
    let audiences = vec!["self-test".to_owned()];
    let rules = Rules { leeway_s: 0, max_lifetime_s: Some(1), issuers: Vec::new(), audiences };
    let shared = || {
        let secret = random_bytes::<{ SigningKey::MIN_BYTES }>()?;
        Ok(SigningKey::from_secret(secret.as_slice()).expect("it is long enough"))
    };
    let kinds: [&dyn Fn() -> Result<SigningKey, KeyError>; 2] = [&shared, &SigningKey::random_ed25519];
    for random_key in kinds {
        let (key, other) = (random_key()?, random_key()?);
        let token = TokenIssuer::new(&key).issue(&grant, NOW_S)?;
        let verify = |key: &SigningKey| {
            let (keys, known) = (Keys::only(key.verifying()), Roles::new(&std::collections::BTreeMap::new()));
            TokenVerifier::new(keys, known, rules.clone(), RevokedTokens::default()).verify(&token, NOW_S)
        };
        let verified = verify(&key)?;
        let as_it_must = verified.subject == grant.subject
            && verified.permissions == PermissionSet::of(&[Permission::HealthRead])
            && matches!(verify(&other), Err(TokenError::Signature));
        if !as_it_must {
            return Err(TokenError::SelfTest);
        }
    }
    Ok(())
}

/// Why a token is refused, or can't be issued.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It has more than 4096 bytes.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// It is no JSON Web Token in compact form, or its header names no algorithm that is registered; or, where its signature is right, its
    /// claims are no object in which each name stands once.
    #[error("the token is not a well-formed JSON Web Token")]
    Malformed,
    /// Its header names an algorithm that its key is not for, or that no key is for.
    #[error("the token's algorithm is not that of a key of this node")]
    Algorithm,
    /// Its header names a key that is not there.
    #[error("the token names a key that this node does not have")]
    UnknownKey,
    /// Its header names no key, and several could be meant.
    #[error("the token names no key (kid), and this node has several for its algorithm")]
    NoKeyNamed,
    /// Its signature is not that of its key.
    #[error("the token's signature does not match")]
    Signature,
    /// Its signature is right, and this node can't tell whether it is still good.
    #[error("this node's clock is behind a time that has been")]
    ClockBehind,
    /// Its header has `crit`.
    #[error("the token's header asks for extensions that this agent does not know")]
    Critical,
    /// Its header says that it is something else.
    #[error("the token is of another type (typ) than JWT or at+jwt")]
    Type,
    /// One of its claims can't be taken.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its `exp` has passed.
    #[error("the token expired {since_s} s ago")]
    Expired {
        /// Seconds since then.
        since_s: i64,
    },
    /// Its `nbf` or its `iat` has not come.
    #[error("the token is not valid for another {for_s} s")]
    NotYetValid {
        /// Seconds until then.
        for_s: i64,
    },
    /// From its `iat` to its `exp` it is too long.
    #[error("the token lives longer than {max_s} s")]
    LivesTooLong {
        /// The limit.
        max_s: u32,
    },
    /// Its `iss` is not one of those that are accepted.
    #[error("the token is from another issuer")]
    Issuer,
    /// Its `aud` does not name this node.
    #[error("the token is for another audience")]
    Audience,
    /// Its `jti` is on the list.
    #[error("the token has been revoked")]
    Revoked,
    /// There is no key to sign with, or no random ID.
    #[error("can't issue a token")]
    Issue(#[from] KeyError),
    /// A token just issued came back otherwise than it went out.
    #[error("the self-test of the token signature failed")]
    SelfTest,
}

impl TokenError {
    /// The reason as a caller is told it. Until a signature is right he may be anyone, and learns nothing that his token does not say:
    /// not which keys there are, nor for what.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Algorithm | Self::UnknownKey | Self::NoKeyNamed | Self::Signature => {
                "the token is not signed with a key of this node".to_owned()
            }
            Self::TooLong
            | Self::Malformed
            | Self::Critical
            | Self::Type
            | Self::ClockBehind
            | Self::Claim(_)
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::LivesTooLong { .. }
            | Self::Issuer
            | Self::Audience
            | Self::Revoked
            | Self::Issue(_)
            | Self::SelfTest => self.to_string(),
        }
    }
}

/// What `token` claims, once its signature by `key` has been found right.
fn signed_claims(token: &str, key: &VerifyingKey) -> Result<Members, TokenError> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    let message = &token[..token.len() - signature.len() - 1];
    // The key's, never the one that the header asks for (RFC 8725, section 3.1).
    let algorithm = key.algorithm().registered();
    if !jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm).map_err(refused)? {
        return Err(TokenError::Signature);
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)
}

/// The reason without the details, which can quote the token.
#[expect(clippy::needless_pass_by_value, reason = "an error is mapped by value")]
fn refused(error: JwtError) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

/// A UUID of version 4 (RFC 9562, section 5.4).
fn random_token_id() -> Result<String, KeyError> {
    let random = random_bytes::<16>()?;
    Ok(uuid::Builder::from_random_bytes(*random).into_uuid().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jsonwebtoken::{Algorithm, Header};
    use serde_json::value::RawValue;

    use super::*;

    const NOW_S: i64 = 1_767_225_600;
    const LEEWAY_S: u8 = 5;

    fn key() -> SigningKey {
        SigningKey::from_secret(&[b'k'; 32]).unwrap()
    }

    fn verify(token: &str) -> Result<VerifiedToken, TokenError> {
        verify_at(token, NOW_S)
    }

    fn verify_at(token: &str, now_s: i64) -> Result<VerifiedToken, TokenError> {
        // What the rules ask for beside this has tests of its own.
        let rules = Rules { leeway_s: LEEWAY_S, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
        let (keys, known) = (Keys::only(key().verifying()), Roles::new(&BTreeMap::new()));
        TokenVerifier::new(keys, known, rules, RevokedTokens::default()).verify(token, now_s)
    }

    /// A token with these claims, as JSON text, signed as it should be.
    fn signed(claims: &str) -> String {
        signed_under(&Header::new(Algorithm::HS256), claims)
    }

    fn signed_under(header: &Header, claims: &str) -> String {
        crypto::install();
        let claims = RawValue::from_string(claims.to_owned()).unwrap();
        jsonwebtoken::encode(header, &claims, &key().signing).unwrap()
    }

    /// A token with this header, already encoded, and a signature by HS256 that fits.
    fn signed_under_encoded(header: &str) -> String {
        let good = signed(&with(""));
        let message = format!("{header}.{}", good.split('.').nth(1).unwrap());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key().signing, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    /// Claims that are accepted, and `more`.
    fn with(more: &str) -> String {
        format!(r#"{{"sub":"ada","exp":{}{more}}}"#, NOW_S + 60)
    }

    fn refusal(token: &str) -> String {
        verify(token).expect_err(token).to_string()
    }

    #[test]
    fn an_issued_token_is_accepted_and_says_what_was_granted() {
        let grant = Grant {
            subject: "ada@example.com".to_owned(),
            roles: vec!["read".to_owned(), "unknown".to_owned()],
            lifetime_s: 900,
            ..Grant::default()
        };
        let issuer = TokenIssuer::new(&key());
        let verified = verify(&issuer.issue(&grant, NOW_S).unwrap()).unwrap();
        assert_eq!(verified.subject, grant.subject);
        assert_eq!(verified.roles, grant.roles);
        assert_eq!(verified.permissions, PermissionSet::of(&[Permission::NodeRead, Permission::HealthRead]));
        assert_eq!(verified.expires_at_s, NOW_S + 900);
        let again = verify(&issuer.issue(&grant, NOW_S).unwrap()).unwrap();
        assert_eq!(verified.token_id.as_ref().unwrap().len(), 36);
        assert_ne!(verified.token_id, again.token_id);
    }

    #[test]
    fn listed_permissions_replace_those_of_the_roles() {
        let permissions = |claims: &str| verify(&signed(&with(claims))).unwrap().permissions;
        let admin = permissions(r#","roles":["admin"]"#);
        assert!(admin.allows(Permission::PowerExecute));
        let listed = permissions(r#","roles":["admin"],"permissions":["node:read","node:*","public",""]"#);
        assert_eq!(listed, PermissionSet::of(&[Permission::NodeRead]));
        assert_eq!(permissions(r#","roles":["admin"],"permissions":[]"#), PermissionSet::EMPTY);
        assert_eq!(permissions(r#","permissions":["audit:read"]"#), PermissionSet::of(&[Permission::AuditRead]));
        assert_eq!(permissions(""), PermissionSet::EMPTY);
    }

    #[test]
    fn a_token_is_accepted_from_nbf_and_before_exp_give_or_take_the_leeway() {
        let leeway_s = i64::from(LEEWAY_S);
        let token = signed(r#"{"sub":"ada","nbf":1000,"exp":2000}"#);
        assert!(matches!(verify_at(&token, 999 - leeway_s), Err(TokenError::NotYetValid { for_s: 6 })));
        verify_at(&token, 1000 - leeway_s).unwrap();
        verify_at(&token, 1999 + leeway_s).unwrap();
        assert!(matches!(verify_at(&token, 2000 + leeway_s), Err(TokenError::Expired { since_s: 5 })));
    }

    #[test]
    fn times_at_the_ends_of_their_range_neither_wrap_nor_panic() {
        let forever = signed(r#"{"sub":"ada","exp":1e300,"nbf":-1e300}"#);
        for now_s in [i64::MIN, -1, 0, 1, NOW_S, i64::MAX - 1] {
            verify_at(&forever, now_s).unwrap();
        }
        let never = signed(r#"{"sub":"ada","exp":-9223372036854775808}"#);
        for now_s in [0, 59, NOW_S, i64::MAX] {
            assert!(matches!(verify_at(&never, now_s), Err(TokenError::Expired { .. })));
        }
        let later = signed(r#"{"sub":"ada","exp":18446744073709551615,"nbf":18446744073709551615}"#);
        assert!(matches!(verify_at(&later, NOW_S), Err(TokenError::NotYetValid { .. })));
    }

    #[test]
    fn a_fraction_of_a_second_is_cut_off() {
        let verified = verify(&signed(&format!(r#"{{"sub":"ada","exp":{NOW_S}.9}}"#))).unwrap();
        assert_eq!(verified.expires_at_s, NOW_S);
    }

    #[test]
    fn every_claim_of_a_wrong_type_or_size_is_refused() {
        let expiry = NOW_S + 60;
        let roles = |count, name: &str| with(&format!(r#","roles":[{}]"#, vec![format!("{name:?}"); count].join(",")));
        let subject = |text: &str| format!(r#"{{"sub":"{text}","exp":{expiry}}}"#);
        let catalogue = [
            (r#"{"sub":"ada"}"#.to_owned(), r#""exp" is missing"#),
            (r#"{"sub":"ada","exp":null}"#.to_owned(), r#""exp" is not a number"#),
            (format!(r#"{{"sub":"ada","exp":"{expiry}"}}"#), r#""exp" is not a number"#),
            (format!(r#"{{"sub":"ada","exp":[{expiry}]}}"#), r#""exp" is not a number"#),
            (format!(r#"{{"sub":"ada","exp":{}}}"#, NOW_S - 60), "expired 60 s ago"),
            (r#"{"sub":"ada","exp":-1}"#.to_owned(), "expired 1767225601 s ago"),
            (with(&format!(r#","nbf":{}"#, NOW_S + 30)), "not valid for another 30 s"),
            (with(r#","nbf":"0""#), r#""nbf" is not a number"#),
            (with(r#","nbf":null"#), r#""nbf" is not a number"#),
            (with(r#","iat":"0""#), r#""iat" is not a number"#),
            (format!(r#"{{"exp":{expiry}}}"#), r#""sub" is missing"#),
            (format!(r#"{{"sub":7,"exp":{expiry}}}"#), r#""sub" is not a string"#),
            (format!(r#"{{"sub":null,"exp":{expiry}}}"#), r#""sub" is not a string"#),
            (subject(""), r#""sub" is empty"#),
            (subject(&"x".repeat(257)), r#""sub" is too long"#),
            (subject(&"é".repeat(129)), r#""sub" is too long"#),
            (subject(r"a\nb"), r#""sub" holds control characters"#),
            (subject(r"a\u0000"), r#""sub" holds control characters"#),
            (subject(r"a\u007f"), r#""sub" holds control characters"#),
            (subject(r"a\u0085"), r#""sub" holds control characters"#),
            (subject(r"a\u202e"), r#""sub" holds control characters"#),
            (subject(r"a\u2066"), r#""sub" holds control characters"#),
            (with(r#","roles":"admin""#), r#""roles" is not a list of strings"#),
            (with(r#","roles":null"#), r#""roles" is not a list of strings"#),
            (with(r#","roles":["read",7]"#), r#""roles" is not a list of strings"#),
            (with(r#","roles":{"admin":true}"#), r#""roles" is not a list of strings"#),
            (roles(33, "read"), r#""roles" names more than 32 roles"#),
            (roles(1, &"r".repeat(65)), r#""roles" is too long"#),
            (roles(1, ""), r#""roles" is empty"#),
            (with(r#","roles":["a\tb"]"#), r#""roles" holds control characters"#),
            (with(r#","roles":["admin"],"permissions":null"#), r#""permissions" is not a list of strings"#),
            (with(r#","permissions":"node:read""#), r#""permissions" is not a list of strings"#),
            (with(r#","permissions":[["node:read"]]"#), r#""permissions" is not a list of strings"#),
            (with(r#","jti":7"#), r#""jti" is not a string"#),
            (with(&format!(r#","jti":"{}""#, "j".repeat(129))), r#""jti" is too long"#),
            (with(r#","jti":"a\u001b[2J""#), r#""jti" holds control characters"#),
            (with(r#","iss":7"#), r#""iss" is not a string"#),
            (with(r#","iss":["a"]"#), r#""iss" is not a string"#),
            (with(r#","iss":"""#), r#""iss" is empty"#),
            (with(r#","aud":7"#), r#""aud" is neither a string nor a list of strings"#),
            (with(r#","aud":["a",7]"#), r#""aud" is neither a string nor a list of strings"#),
            (with(r#","aud":null"#), r#""aud" is neither a string nor a list of strings"#),
            (with(&format!(r#","aud":[{}"a"]"#, r#""a","#.repeat(32))), r#""aud" names more than 32 audiences"#),
            (with(r#","sub":"eve""#), "not a well-formed"),
            (with(r#","roles":[],"roles":["admin"]"#), "not a well-formed"),
            (with(r#","other":1,"other":2"#), "not a well-formed"),
            ("[]".to_owned(), "not a well-formed"),
            ("7".to_owned(), "not a well-formed"),
        ];
        for (claims, reason) in catalogue {
            let told = refusal(&signed(&claims));
            assert!(told.contains(reason), "{claims}: {told}");
        }
    }

    #[test]
    fn claims_at_their_limits_are_accepted() {
        let roles = vec![format!("{:?}", "r".repeat(64)); 32].join(",");
        let claims = format!(
            r#"{{"sub":"{}","jti":"{}","roles":[{roles}],"exp":{},"other":null,"azp":7}}"#,
            "é".repeat(128),
            "j".repeat(128),
            NOW_S + 60
        );
        assert_eq!(verify(&signed(&claims)).unwrap().roles.len(), 32);
    }

    #[test]
    fn every_header_but_that_of_hs256_is_refused_even_where_the_signature_fits() {
        let headers = [
            // {"typ":"JWT","alg":"none"}
            ("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0", "not a well-formed"),
            // {"typ":"JWT","alg":"HS384"}
            ("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzM4NCJ9", "algorithm is not that of a key"),
            // {"typ":"JWT","alg":"RS256"}
            ("eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9", "algorithm is not that of a key"),
            // {"typ":"JWT","alg":"hs256"}
            ("eyJ0eXAiOiJKV1QiLCJhbGciOiJoczI1NiJ9", "not a well-formed"),
            // {"typ":"JWT"}
            ("eyJ0eXAiOiJKV1QifQ", "not a well-formed"),
            // {"alg":"HS256","alg":"none"}
            ("eyJhbGciOiJIUzI1NiIsImFsZyI6Im5vbmUifQ", "not a well-formed"),
            // ["HS256"]
            ("WyJIUzI1NiJd", "not a well-formed"),
        ];
        for (header, reason) in headers {
            let told = refusal(&signed_under_encoded(header));
            assert!(told.contains(reason), "{header}: {told}");
        }
        // {"typ":"JWT","alg":"HS256"}
        verify(&signed_under_encoded("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9")).unwrap();
    }

    #[test]
    fn a_header_that_asks_for_more_is_refused() {
        for (header, reason) in [
            (r#"{"alg":"HS256","crit":[]}"#, "asks for extensions"),
            (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, "asks for extensions"),
            (r#"{"alg":"HS256","crit":null}"#, "asks for extensions"),
            (r#"{"alg":"HS256","typ":"logout+jwt"}"#, "another type"),
            (r#"{"alg":"HS256","typ":null}"#, "another type"),
        ] {
            let told = refusal(&signed_under_encoded(&URL_SAFE_NO_PAD.encode(header)));
            assert!(told.contains(reason), "{header}: {told}");
        }
        verify(&signed_under_encoded(&URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"application/at+jwt"}"#)))
            .unwrap();
    }

    #[test]
    fn a_stranger_does_not_learn_which_keys_there_are() {
        let own = key().named(Some("own".to_owned()));
        let ed = || SigningKey::random_ed25519().unwrap();
        let keys = vec![
            own.verifying().clone(),
            ed().verifying().clone(),
            ed().named(Some("x".to_owned())).verifying().clone(),
        ];
        let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
        let verifier =
            TokenVerifier::new(Keys::of(keys), Roles::new(&BTreeMap::new()), rules, RevokedTokens::default());
        let claims = URL_SAFE_NO_PAD.encode(with(""));
        let mut told = std::collections::BTreeSet::new();
        for header in [
            r#"{"alg":"HS256","kid":"own"}"#,
            r#"{"alg":"HS256","kid":"other"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"EdDSA","kid":"own"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"PS512"}"#,
        ] {
            let token = format!("{}.{claims}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode([1; 64]));
            let error = verifier.verify(&token, NOW_S).unwrap_err();
            assert_ne!(error.told(), error.to_string(), "who runs the node is told more");
            told.insert(error.told());
        }
        assert_eq!(told.len(), 1, "{told:?}");
        let signed = verifier.verify(&signed(&with(r#","nbf":1e12"#)), NOW_S).unwrap_err();
        assert_eq!(signed.told(), signed.to_string(), "whose signature is right is told why");
    }

    #[test]
    fn a_token_that_was_accepted_once_is_looked_at_again() {
        let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
        let keys = Keys::only(key().verifying());
        let verifier = TokenVerifier::new(keys, Roles::new(&BTreeMap::new()), rules, RevokedTokens::default());
        let token = signed(&with(""));
        verifier.verify(&token, NOW_S).unwrap();
        verifier.verify(&token, NOW_S + 59).unwrap();
        assert!(matches!(verifier.verify(&token, NOW_S + 60), Err(TokenError::Expired { .. })));
        let mut altered = token.into_bytes();
        *altered.last_mut().unwrap() ^= 1;
        assert!(verifier.verify(std::str::from_utf8(&altered).unwrap(), NOW_S).is_err());
    }

    #[test]
    fn where_tokens_can_be_called_back_each_has_an_id() {
        let told = |revoked: RevokedTokens, claims: &str| {
            let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
            let (keys, known) = (Keys::only(key().verifying()), Roles::new(&BTreeMap::new()));
            let verified = TokenVerifier::new(keys, known, rules, revoked).verify(&signed(&with(claims)), NOW_S);
            verified.map_or_else(|error| error.to_string(), |token| token.token_id.unwrap_or_default())
        };
        let list = || ["#1".to_owned()].into_iter().collect::<RevokedTokens>();
        assert_eq!(told(list(), r##","jti":"#1""##), "the token has been revoked");
        assert_eq!(told(list(), r#","jti":"1""#), "1");
        assert_eq!(told(list(), ""), r#"the token's claim "jti" is missing"#);
        assert_eq!(told(RevokedTokens::from_iter([]), ""), r#"the token's claim "jti" is missing"#, "an empty list");
        assert_eq!(told(RevokedTokens::default(), ""), "");
    }

    #[test]
    fn a_token_signed_with_another_key_is_refused() {
        let other = SigningKey::from_secret(&[b'o'; 32]).unwrap();
        let grant = Grant { subject: "ada".to_owned(), lifetime_s: 60, ..Grant::default() };
        let token = TokenIssuer::new(&other).issue(&grant, NOW_S).unwrap();
        assert!(matches!(verify(&token), Err(TokenError::Signature)));
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused() {
        let token = signed(&with(r#","roles":["read"]"#));
        for position in 0..token.len() {
            for replacement in ["A", "B", ".", "=", " "] {
                let mut tampered = token.clone();
                tampered.replace_range(position..=position, replacement);
                assert!(tampered == token || verify(&tampered).is_err(), "{tampered}");
            }
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_refused() {
        let good = signed(&with(""));
        let parts: Vec<_> = good.split('.').collect();
        let (message, signature) = good.rsplit_once('.').unwrap();
        for token in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            "a.b.c".to_owned(),
            message.to_owned(),
            format!("{message}."),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}"),
            format!("{}.{good}", parts[0]),
            format!("{good}="),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{}.{}.{}", parts[0], parts[2], parts[1]),
        ] {
            assert!(verify(&token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn a_token_longer_than_4096_bytes_is_refused_before_it_is_parsed() {
        let padded = |bytes: usize| signed(&with(&format!(r#","padding":"{}""#, "x".repeat(bytes))));
        assert!(padded(2900).len() < MAX_TOKEN_BYTES);
        verify(&padded(2900)).unwrap();
        assert!(matches!(verify(&padded(3800)), Err(TokenError::TooLong)));
        assert!(matches!(verify(&"x".repeat(5120)), Err(TokenError::TooLong)));
    }

    #[test]
    fn no_refusal_quotes_the_token() {
        for claims in [r#"{"sub":"s3cret","exp":"s3cret"}"#, r#"{"sub":"s3cret","sub":"s3cret"}"#] {
            let error = verify(&signed(claims)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn what_would_be_refused_is_not_issued() {
        let grant = |subject: &str, roles: usize| Grant {
            subject: subject.to_owned(),
            roles: vec!["r".repeat(64); roles],
            lifetime_s: 60,
            ..Grant::default()
        };
        let issuer = TokenIssuer::new(&key());
        for refused in [grant("", 0), grant("a\u{202e}b", 0), grant("ada", 33)] {
            assert!(matches!(issuer.issue(&refused, NOW_S), Err(TokenError::Claim { .. })));
        }
        verify(&issuer.issue(&grant("ada", 32), NOW_S).unwrap()).unwrap();
    }

    #[test]
    fn the_self_test_passes() {
        self_test().unwrap();
    }
}
