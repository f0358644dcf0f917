//! Keys in DER (X.690): as much of it as says which algorithm a key is for, and where its bytes are.
//!
//! `SubjectPublicKeyInfo` of RFC 5280 and `PrivateKeyInfo` of RFC 5208, with the algorithms of RFC 8410 (Ed25519), RFC 5480 (P-256)
//! and RFC 3279 (RSA).

use super::key::KeyAlgorithm;
use super::key_error::KeyFormatError;
use crate::der::{Der, OBJECT_IDENTIFIER, SEQUENCE};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The algorithm and the key's own bytes in a `SubjectPublicKeyInfo`: 32 bytes, a point, or an `RSAPublicKey`.
pub(super) fn public_key(der: &[u8]) -> Result<(KeyAlgorithm, &[u8]), KeyFormatError> {
    let parts = || {
        let mut info = Der(der).whole(SEQUENCE)?;
        let (algorithm, bits) = (info.next(SEQUENCE)?, info.next(BIT_STRING)?);
        info.is_at_end().then_some((algorithm, bits.0.strip_prefix(&[0])?))
    };
    let (algorithm, key) = parts().ok_or(KeyFormatError::Der)?;
    Ok((named(algorithm)?, key))
}

/// The algorithm that a `PrivateKeyInfo` is for.
pub(super) fn private_key_algorithm(der: &[u8]) -> Result<KeyAlgorithm, KeyFormatError> {
    let algorithm = || {
        let mut info = Der(der).whole(SEQUENCE)?;
        info.next(INTEGER)?;
        info.next(SEQUENCE)
    };
    named(algorithm().ok_or(KeyFormatError::Der)?)
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1), without leading zeros.
pub(super) fn rsa_components(der: &[u8]) -> Result<(&[u8], &[u8]), KeyFormatError> {
    let components = || {
        let mut key = Der(der).whole(SEQUENCE)?;
        let components = (positive(key.next(INTEGER)?)?, positive(key.next(INTEGER)?)?);
        key.is_at_end().then_some(components)
    };
    components().ok_or(KeyFormatError::Der)
}

/// A number that is not negative, without the zero that says so.
fn positive(integer: Der<'_>) -> Option<&[u8]> {
    let bytes = integer.0;
    bytes.first().is_some_and(|first| first & 0x80 == 0).then(|| bytes.strip_prefix(&[0]).unwrap_or(bytes))
}

/// The algorithm that an `AlgorithmIdentifier` names.
fn named(mut identifier: Der<'_>) -> Result<KeyAlgorithm, KeyFormatError> {
    let mut name = || identifier.next(OBJECT_IDENTIFIER).map(|name| name.0).ok_or(KeyFormatError::Der);
    match name()? {
        ED25519 => Ok(KeyAlgorithm::EdDsa),
        RSA_ENCRYPTION => Ok(KeyAlgorithm::Rs256),
        EC_PUBLIC_KEY if name()? == PRIME256V1 => Ok(KeyAlgorithm::Es256),
        _ => Err(KeyFormatError::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.1.
    const ED25519_SPKI: &str =
        "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_example_of_rfc_8410_is_read() {
        let der = bytes(ED25519_SPKI);
        let (algorithm, key) = public_key(&der).unwrap();
        assert_eq!((algorithm, key), (KeyAlgorithm::EdDsa, &der[12..]));
    }

    #[test]
    fn no_prefix_no_longer_text_and_no_changed_length_is_a_key() {
        let der = bytes(ED25519_SPKI);
        for end in 0..der.len() {
            assert!(public_key(&der[..end]).is_err(), "{end}");
        }
        assert!(public_key(&[&der[..], &[0]].concat()).is_err());
        for at in [1, 3, 5, 10] {
            for change in [1, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] = changed[at].wrapping_add(change);
                assert!(public_key(&changed).is_err(), "{at} {change}");
            }
        }
    }

    #[test]
    fn rsa_numbers_are_positive_and_come_without_their_sign() {
        assert_eq!(rsa_components(&bytes("300702030100010200")), Err(KeyFormatError::Der));
        assert_eq!(rsa_components(&bytes("30060201800201ff")), Err(KeyFormatError::Der));
        assert_eq!(rsa_components(&bytes("3007020200ff020103")).unwrap(), (&[0xff][..], &[3][..]));
    }
}
