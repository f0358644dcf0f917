//! The cryptography under `jsonwebtoken`: HS256, EdDSA with Ed25519, ES256 and RS256 over `ring`.
//!
//! Owns the choice of algorithms; every other one is `InvalidAlgorithm`, whatever a token's header says, and so is a key of another
//! family than the algorithm's. Knows neither claims nor key files.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

/// As a token holds it (RFC 7518, section 3.4): two numbers of 32 bytes.
pub(super) static ES256_SIGNING: &EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;

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
    signer_factory: |algorithm, key| Ok(Box::new(Signing::new(*algorithm, key)?) as Box<dyn JwtSigner>),
    verifier_factory: |algorithm, key| Ok(Box::new(Verifying::new(*algorithm, key)?) as Box<dyn JwtVerifier>),
    // Reached by `jsonwebtoken`'s own reading of JSON Web Keys only; `auth::jwks` reads them here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// The algorithm, where it is one of ours and for keys of that family.
fn check(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    let expected = match algorithm {
        Algorithm::HS256 => AlgorithmFamily::Hmac,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        Algorithm::ES256 => AlgorithmFamily::Ec,
        Algorithm::RS256 => AlgorithmFamily::Rsa,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if family == expected { Ok(()) } else { Err(ErrorKind::InvalidKeyFormat.into()) }
}

/// A key that signs, and its algorithm.
enum Signing {
    Hs256(hmac::Key),
    EdDsa(Box<Ed25519KeyPair>),
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

impl Signing {
    fn new(algorithm: Algorithm, key: &EncodingKey) -> Result<Self> {
        check(algorithm, key.family())?;
        let (bytes, unusable) = (key.as_bytes(), |_| ErrorKind::InvalidKeyFormat);
        Ok(match key.family() {
            AlgorithmFamily::Hmac => Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
            AlgorithmFamily::Ed => {
                Self::EdDsa(Box::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(unusable)?))
            }
            AlgorithmFamily::Ec => {
                let pair = EcdsaKeyPair::from_pkcs8(ES256_SIGNING, bytes, &SystemRandom::new());
                Self::Es256(Box::new(pair.map_err(unusable)?))
            }
            AlgorithmFamily::Rsa => Self::Rs256(Box::new(RsaKeyPair::from_pkcs8(bytes).map_err(unusable)?)),
        })
    }
}

/// Whether a key signs. One whose parts contradict each other can be read all the same, and only fails when it has to.
pub(super) fn signs(algorithm: Algorithm, key: &EncodingKey) -> bool {
    Signing::new(algorithm, key).is_ok_and(|signing| signing.try_sign(b"").is_ok())
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        match self {
            Self::Hs256(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Es256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignatureError::new()),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| SignatureError::new())?;
                Ok(signature)
            }
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::EdDsa(_) => Algorithm::EdDSA,
            Self::Es256(_) => Algorithm::ES256,
            Self::Rs256(_) => Algorithm::RS256,
        }
    }
}

/// A key that verifies, and its algorithm.
enum Verifying {
    Hs256(hmac::Key),
    EdDsa(UnparsedPublicKey<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
}

impl Verifying {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        check(algorithm, key.family())?;
        Ok(match (key.family(), key.kind()) {
            (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))
            }
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(key)) => {
                Self::EdDsa(UnparsedPublicKey::new(&ED25519, key.clone()))
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
                Self::Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()))
            }
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Self::Rs256(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
            }
            _ => return Err(ErrorKind::InvalidKeyFormat.into()),
        })
    }
}

impl Verifier<Vec<u8>> for Verifying {
    // `ring` compares an HMAC in constant time, so that a forger can't learn it byte by byte.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        let verified = match self {
            Self::Hs256(key) => hmac::verify(key, message, signature),
            Self::EdDsa(key) | Self::Es256(key) => key.verify(message, signature),
            Self::Rs256(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
        };
        verified.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Verifying {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::EdDsa(_) => Algorithm::EdDSA,
            Self::Es256(_) => Algorithm::ES256,
            Self::Rs256(_) => Algorithm::RS256,
        }
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
        use Algorithm::{ES384, HS384, HS512, PS256, PS384, PS512, RS384, RS512};
        install();
        let (signing, verifying) = (EncodingKey::from_secret(&[7; 32]), DecodingKey::from_secret(&[7; 32]));
        for algorithm in [HS384, HS512, ES384, RS384, RS512, PS256, PS384, PS512] {
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
        let keys = [
            (Algorithm::HS256, DecodingKey::from_secret(&[7; 32])),
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&[7; 32])),
            (Algorithm::ES256, DecodingKey::from_ec_der(&[4; 65])),
            (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&[0xff; 256], &[1, 0, 1])),
        ];
        for (of_key, key) in &keys {
            for (algorithm, _) in &keys {
                let verified = jsonwebtoken::crypto::verify("", b"", key, *algorithm);
                match verified {
                    Ok(is_right) => assert!(!is_right && algorithm == of_key, "{of_key:?} as {algorithm:?}"),
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::InvalidKeyFormat), "{of_key:?} as {algorithm:?}");
                        assert!(algorithm != of_key);
                    }
                }
            }
        }
    }

    /// RFC 8037, appendix A.4: the public key, what is signed, and the signature.
    #[test]
    fn the_example_of_rfc_8037_verifies() {
        install();
        let key = DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(jsonwebtoken::crypto::verify(signature, message, &key, Algorithm::EdDSA).unwrap());
        assert!(!jsonwebtoken::crypto::verify(signature, &message[1..], &key, Algorithm::EdDSA).unwrap());
    }

    #[test]
    fn installing_again_does_nothing() {
        install();
        install();
    }
}
