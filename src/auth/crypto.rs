//! The cryptography under `jsonwebtoken`: HS256 over `ring`.
//!
//! Owns the choice of algorithms; every other one is `InvalidAlgorithm`, whatever a token's header says. Knows neither
//! claims nor key files.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::hmac;

/// Makes this module the provider of `jsonwebtoken` for the whole process; later calls do nothing.
///
/// Without it the first token panics, so whatever signs or verifies calls it when it is made.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        PROVIDER.install_default().expect("nothing else in this binary installs a provider");
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::to_sign(*algorithm, key)?) as Box<dyn JwtSigner>),
    verifier_factory: |algorithm, key| Ok(Box::new(Hs256::to_verify(*algorithm, key)?) as Box<dyn JwtVerifier>),
    // Reached by JSON Web Keys only, which this agent doesn't read.
    key_utils: KeyUtils::new_unimplemented(),
};

/// HMAC with SHA-256 (RFC 7518, section 3.2).
struct Hs256(hmac::Key);

impl Hs256 {
    fn to_sign(algorithm: Algorithm, key: &EncodingKey) -> Result<Self> {
        Self::new(algorithm, key.family(), key.as_bytes())
    }

    fn to_verify(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        Self::new(algorithm, key.family(), key.try_get_as_bytes()?)
    }

    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Self> {
        match (algorithm, family) {
            (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            (Algorithm::HS256, _) => Err(ErrorKind::InvalidKeyFormat.into()),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    // `ring` compares in constant time, so that a forger can't learn a signature byte by byte.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        hmac::verify(&self.0, message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.1: its key, its signing input and its signature.
    const RFC_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const RFC_INPUT: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const RFC_SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    #[test]
    fn the_example_of_rfc_7515_verifies_and_signs_the_same() {
        install();
        let signing = EncodingKey::from_urlsafe_base64_secret(&format!("{RFC_KEY}==")).unwrap();
        let verifying = DecodingKey::from_secret(signing.as_bytes());
        let signature = jsonwebtoken::crypto::sign(RFC_INPUT.as_bytes(), &signing, Algorithm::HS256).unwrap();
        assert_eq!(signature, RFC_SIGNATURE);
        let verify = |signature: &str| {
            jsonwebtoken::crypto::verify(signature, RFC_INPUT.as_bytes(), &verifying, Algorithm::HS256).unwrap()
        };
        assert!(verify(RFC_SIGNATURE));
        assert!(!verify(&RFC_SIGNATURE.replace('d', "e")));
        assert!(!verify(""));
    }

    #[test]
    fn every_other_algorithm_is_invalid() {
        use Algorithm::{ES256, ES384, EdDSA, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        install();
        let (signing, verifying) = (EncodingKey::from_secret(&[7; 32]), DecodingKey::from_secret(&[7; 32]));
        for algorithm in [HS384, HS512, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA] {
            let signed = jsonwebtoken::crypto::sign(b"message", &signing, algorithm).unwrap_err();
            let verified = jsonwebtoken::crypto::verify("", b"message", &verifying, algorithm).unwrap_err();
            for error in [signed, verified] {
                assert!(matches!(error.kind(), ErrorKind::InvalidAlgorithm), "{algorithm:?}: {error}");
            }
        }
    }

    #[test]
    fn a_key_of_another_family_is_refused() {
        install();
        let error = jsonwebtoken::crypto::verify("", b"", &DecodingKey::from_ed_der(&[7; 32]), Algorithm::HS256);
        assert!(matches!(error.unwrap_err().kind(), ErrorKind::InvalidKeyFormat));
    }

    #[test]
    fn installing_again_does_nothing() {
        install();
        install();
    }
}
