//! Keys as JSON: JSON Web Keys and sets of them (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::key::{KeyAlgorithm, VerifyingKey};
use super::key_error::KeyFormatError;

/// What a text holds.
pub(super) struct Contents {
    /// The keys that verify tokens.
    pub keys: Vec<VerifyingKey>,
    /// Whether a shared secret is among its keys, be it for something else.
    pub holds_secret: bool,
}

/// The keys in a text, which is a set or a single key. Those for other purposes or of kinds that this agent doesn't know are left
/// out, as RFC 7517 asks for (section 5). A private key is refused whatever it is for: it has no business on a node.
pub(super) fn read(text: &[u8]) -> Result<Contents, KeyFormatError> {
    let jwks = match serde_json::from_slice(text) {
        Ok(Set { keys }) => keys,
        Err(_) => vec![serde_json::from_slice::<Jwk>(text).map_err(|_| KeyFormatError::Json)?],
    };
    if jwks.iter().any(Jwk::is_private) {
        return Err(KeyFormatError::Private);
    }
    let holds_secret = jwks.iter().any(|jwk| jwk.k.is_some());
    let keys = jwks.into_iter().filter_map(|jwk| jwk.key().transpose()).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(KeyFormatError::NoneUsable) } else { Ok(Contents { keys, holds_secret }) }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// The members that say what a key is. Others are ignored (RFC 7517, section 4).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<Zeroizing<String>>,
    // Private parts (RFC 7518, sections 6.2.2 and 6.3.2; RFC 8037, section 2).
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
}

impl Jwk {
    fn is_private(&self) -> bool {
        let Self { d, p, q, dp, dq, qi, oth, .. } = self;
        [d, p, q, dp, dq, qi, oth].into_iter().any(Option::is_some)
    }

    /// The key; none where it is for something else.
    fn key(self) -> Result<Option<VerifyingKey>, KeyFormatError> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => KeyAlgorithm::EdDsa,
            ("EC", Some("P-256")) => KeyAlgorithm::Es256,
            ("RSA", _) => KeyAlgorithm::Rs256,
            ("oct", _) => KeyAlgorithm::Hs256,
            _ => return Ok(None),
        };
        let verifies = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"))
            && self.alg.as_deref().is_none_or(|alg| algorithm.is_named(alg));
        if !verifies {
            return Ok(None);
        }
        let key = match algorithm {
            KeyAlgorithm::EdDsa => VerifyingKey::ed25519(&decoded(self.x.as_deref())?)?,
            KeyAlgorithm::Es256 => {
                let (x, y) = (decoded(self.x.as_deref())?, decoded(self.y.as_deref())?);
                if (x.len(), y.len()) != (32, 32) {
                    return Err(KeyFormatError::Json);
                }
                // An uncompressed point (SEC 1, section 2.3.3).
                VerifyingKey::p256(&[&[4], x.as_slice(), y.as_slice()].concat())?
            }
            KeyAlgorithm::Rs256 => VerifyingKey::rsa(&decoded(self.n.as_deref())?, &decoded(self.e.as_deref())?)?,
            KeyAlgorithm::Hs256 => VerifyingKey::shared(&decoded(self.k.as_deref().map(String::as_str))?)?,
        };
        Ok(Some(key.named(self.kid)))
    }
}

fn decoded(text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyFormatError> {
    let text = text.ok_or(KeyFormatError::Json)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    URL_SAFE_NO_PAD.decode_vec(text, &mut bytes).map_err(|_| KeyFormatError::Json)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.2.
    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"ed"}"#;
    /// RFC 7517, appendix A.1.
    const EC: &str = r#"{"kty":"EC","crv":"P-256","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;

    fn names(text: &str) -> Result<Vec<(Option<String>, KeyAlgorithm)>, KeyFormatError> {
        let Contents { keys, .. } = read(text.as_bytes())?;
        Ok(keys.iter().map(|key| (key.kid().map(str::to_owned), key.algorithm())).collect())
    }

    #[test]
    fn the_examples_of_the_standards_are_read_as_a_set_or_alone() {
        let ed = (Some("ed".to_owned()), KeyAlgorithm::EdDsa);
        let ec = (Some("1".to_owned()), KeyAlgorithm::Es256);
        assert_eq!(names(&format!(r#"{{"keys":[{ED},{EC}]}}"#)).unwrap(), [ed.clone(), ec]);
        assert_eq!(names(ED).unwrap(), [ed]);
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let others = [
            r#"{"kty":"EC","crv":"P-384","x":"a","y":"b"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"a"}"#,
            r#"{"kty":"new"}"#,
            r#"{"kty":"RSA","use":"enc","n":"a","e":"AQAB"}"#,
            r#"{"kty":"RSA","alg":"RS512","n":"a","e":"AQAB"}"#,
            r#"{"kty":"oct","alg":"A128KW","k":"a"}"#,
            r#"{"kty":"RSA","key_ops":["encrypt"],"n":"a","e":"AQAB"}"#,
        ];
        assert_eq!(names(&format!(r#"{{"keys":[{},{ED}]}}"#, others.join(","))).unwrap().len(), 1);
        assert_eq!(names(&format!(r#"{{"keys":[{}]}}"#, others.join(","))), Err(KeyFormatError::NoneUsable));
    }

    #[test]
    fn a_private_key_or_a_secret_is_found_whatever_it_is_for() {
        for private in [
            r#"{"kty":"OKP","crv":"Ed25519","key_ops":["sign"],"x":"a","d":"a"}"#,
            r#"{"kty":"EC","crv":"P-384","x":"a","y":"b","d":"a"}"#,
            r#"{"kty":"RSA","use":"enc","n":"a","e":"AQAB","dp":"a"}"#,
            r#"{"kty":"RSA","n":"a","e":"AQAB","p":"a","q":"b"}"#,
            r#"{"kty":"new","d":"a"}"#,
        ] {
            assert_eq!(names(private), Err(KeyFormatError::Private), "{private}");
            assert_eq!(names(&format!(r#"{{"keys":[{ED},{private}]}}"#)), Err(KeyFormatError::Private), "{private}");
        }
        let secret = |more: &str| read(format!(r#"{{"keys":[{ED}{more}]}}"#).as_bytes()).unwrap().holds_secret;
        assert!(!secret(""));
        for unused in [r#","alg":"A128KW""#, r#","use":"enc""#, r#","key_ops":["sign"]"#] {
            assert!(secret(&format!(r#",{{"kty":"oct","k":"AQAB"{unused}}}"#)), "{unused}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let catalogue = [
            ("{", KeyFormatError::Json),
            ("{}", KeyFormatError::Json),
            (r#"{"keys":{}}"#, KeyFormatError::Json),
            (r#"{"kty":"OKP","crv":"Ed25519"}"#, KeyFormatError::Json),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, KeyFormatError::Length),
            (
                r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="}"#,
                KeyFormatError::Json,
            ),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, KeyFormatError::Json),
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, KeyFormatError::WeakRsa { bits: 17 }),
            (r#"{"kty":"oct","k":"AQAB"}"#, KeyFormatError::TooShort { bytes: 3 }),
            (&ED.replace("\"x\"", r#""d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x""#), KeyFormatError::Private),
        ];
        for (text, error) in catalogue {
            assert_eq!(names(text), Err(error), "{text}");
        }
    }
}
