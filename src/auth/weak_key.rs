//! Public keys of Ed25519 that have the right length, and with which anybody can sign.

/// The numbers `y` of the points whose order is 1, 2, 4 or 8 (RFC 8032, section 5.1.2; little-endian, without the sign of `x`). With such a
/// key one signature fits one message in eight at least, whoever made it.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

/// Whether anybody can sign with it: a point of small order, or one that is written as no library writes it (RFC 8032, section 5.1.3),
/// as points of small order can be.
pub(super) fn is_weak(key: &[u8; 32]) -> bool {
    let mut y = *key;
    y[31] &= 0x7f;
    let is_beyond_the_field = y[0] >= 0xed && y[1..31].iter().all(|&byte| byte == 0xff) && y[31] == 0x7f;
    is_beyond_the_field || SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// A signature of nobody's: the neutral element for `R`, and 0 for `S`. It fits where the hash of all times the key is neutral too.
    fn forged() -> [u8; 64] {
        let mut signature = [0; 64];
        signature[0] = 1;
        signature
    }

    #[test]
    fn keys_with_which_anybody_signs_are_weak() {
        let beyond = (0xed..=0xff).map(|first| {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (first, 0x7f);
            key
        });
        for key in SMALL_ORDER.into_iter().chain(beyond) {
            for sign in [0, 0x80] {
                let mut key = key;
                key[31] |= sign;
                assert!(is_weak(&key), "{key:x?}");
            }
        }
        // The control: what is listed is what it is said to be.
        for key in SMALL_ORDER {
            let key = UnparsedPublicKey::new(&ED25519, key);
            let fits = (0..200_u8).filter(|&message| key.verify(&[message], &forged()).is_ok()).count();
            assert!(fits > 10, "{fits} of 200 messages");
        }
    }

    #[test]
    fn other_keys_are_not() {
        // RFC 8037, appendix A.2, and what differs from a weak key in a bit.
        let near = SMALL_ORDER.map(|mut key| {
            key[7] ^= 1;
            key
        });
        let mut minus_two = SMALL_ORDER[4];
        minus_two[0] = 0xeb;
        let rfc: [u8; 32] = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        for key in near.into_iter().chain([minus_two, rfc]) {
            assert!(!is_weak(&key), "{key:x?}");
        }
    }
}
