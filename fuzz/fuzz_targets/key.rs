//! Key files: any bytes, as PEM, as JSON Web Keys, and as DER.
//!
//! What is taken for a key signs what it verifies, where it can sign, and has a name that is its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodeaudit::auth::{Grant, KeyAlgorithm, Keys, RevokedTokens, Roles, Rules, SigningKey, TokenIssuer, TokenVerifier};

const NOW_S: i64 = 1_767_225_600;

fuzz_target!(|input: &[u8]| {
    if let Ok(keys) = Keys::parse(input, Some("file".to_owned())) {
        assert!(!keys.is_empty());
        // Nothing is signed by them here, so nothing is accepted.
        let token = "eyJhbGciOiJFZERTQSJ9.e30.AAAA";
        assert!(verifier(Keys::of(keys)).verify(token, NOW_S).is_err());
    }
    for key in [SigningKey::from_pem(input), SigningKey::from_pkcs8(input)].into_iter().flatten() {
        assert_ne!(key.verifying().algorithm(), KeyAlgorithm::Hs256);
        let audience = Some("fuzz".to_owned());
        let grant = Grant { subject: "fuzz".to_owned(), lifetime_s: 60, audience, ..Grant::default() };
        let token = TokenIssuer::new(&key).issue(&grant, NOW_S).expect("a key that is taken signs");
        verifier(Keys::only(key.verifying())).verify(&token, NOW_S).expect("and verifies what it signed");
    }
});

fn verifier(keys: Keys) -> TokenVerifier {
    let audiences = vec!["fuzz".to_owned()];
    let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences };
    TokenVerifier::new(keys, Roles::new(&Default::default()), rules, RevokedTokens::default())
}
