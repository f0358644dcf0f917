//! Keys in DER (X.690): as much of it as says which algorithm a key is for, and where its bytes are.
//!
//! `SubjectPublicKeyInfo` of RFC 5280 and `PrivateKeyInfo` of RFC 5208, with the algorithms of RFC 8410 (Ed25519), RFC 5480 (P-256)
//! and RFC 3279 (RSA).

use super::key::{KeyAlgorithm, KeyFormatError};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

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
    let mut info = Der(der).whole(SEQUENCE)?;
    let algorithm = algorithm(info.next(SEQUENCE)?)?;
    let bits = info.next(BIT_STRING)?.0;
    info.end()?;
    match bits.split_first() {
        Some((0, key)) => Ok((algorithm, key)),
        _ => Err(KeyFormatError::Der),
    }
}

/// The algorithm that a `PrivateKeyInfo` is for.
pub(super) fn private_key_algorithm(der: &[u8]) -> Result<KeyAlgorithm, KeyFormatError> {
    let mut info = Der(der).whole(SEQUENCE)?;
    info.next(INTEGER)?;
    algorithm(info.next(SEQUENCE)?)
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1), without leading zeros.
pub(super) fn rsa_components(der: &[u8]) -> Result<(&[u8], &[u8]), KeyFormatError> {
    let mut key = Der(der).whole(SEQUENCE)?;
    let mut positive = || {
        let bytes = key.next(INTEGER)?.0;
        let is_positive = bytes.first().is_some_and(|first| first & 0x80 == 0);
        is_positive.then(|| bytes.strip_prefix(&[0]).unwrap_or(bytes)).ok_or(KeyFormatError::Der)
    };
    let components = (positive()?, positive()?);
    key.end()?;
    Ok(components)
}

fn algorithm(mut identifier: Der<'_>) -> Result<KeyAlgorithm, KeyFormatError> {
    let name = identifier.next(OBJECT_IDENTIFIER)?.0;
    match name {
        ED25519 => Ok(KeyAlgorithm::EdDsa),
        RSA_ENCRYPTION => Ok(KeyAlgorithm::Rs256),
        EC_PUBLIC_KEY if identifier.next(OBJECT_IDENTIFIER)?.0 == PRIME256V1 => Ok(KeyAlgorithm::Es256),
        _ => Err(KeyFormatError::Algorithm),
    }
}

/// What is left to read.
struct Der<'a>(&'a [u8]);

impl Der<'_> {
    /// What is in the one element with this tag that all of it is.
    fn whole(mut self, tag: u8) -> Result<Self, KeyFormatError> {
        let inside = self.next(tag)?;
        self.end()?;
        Ok(inside)
    }

    /// What is in the next element, which has this tag.
    fn next(&mut self, tag: u8) -> Result<Self, KeyFormatError> {
        let (length, rest) = match *self.0 {
            [found, length @ 0..=0x7f, ref rest @ ..] if found == tag => (usize::from(length), rest),
            [found, 0x81, length @ 0x80..=0xff, ref rest @ ..] if found == tag => (usize::from(length), rest),
            [found, 0x82, high @ 1..=0xff, low, ref rest @ ..] if found == tag => {
                (usize::from(u16::from_be_bytes([high, low])), rest)
            }
            _ => return Err(KeyFormatError::Der),
        };
        let (inside, after) = rest.split_at_checked(length).ok_or(KeyFormatError::Der)?;
        self.0 = after;
        Ok(Self(inside))
    }

    fn end(&self) -> Result<(), KeyFormatError> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyFormatError::Der) }
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
    fn a_length_has_one_form_only() {
        let long_form = |length: &[u8]| [&[SEQUENCE][..], length, &[0; 300]].concat();
        assert!(Der(&long_form(&[0x81, 0x05])).next(SEQUENCE).is_err());
        assert!(Der(&long_form(&[0x82, 0x00, 0x85])).next(SEQUENCE).is_err());
        assert!(Der(&long_form(&[0x80])).next(SEQUENCE).is_err());
        assert_eq!(Der(&long_form(&[0x82, 0x01, 0x2c])).next(SEQUENCE).unwrap().0.len(), 300);
    }

    #[test]
    fn rsa_numbers_are_positive_and_come_without_their_sign() {
        assert_eq!(rsa_components(&bytes("300702030100010200")), Err(KeyFormatError::Der));
        assert_eq!(rsa_components(&bytes("30060201800201ff")), Err(KeyFormatError::Der));
        assert_eq!(rsa_components(&bytes("3007020200ff020103")).unwrap(), (&[0xff][..], &[3][..]));
    }
}
