//! Public keys for which a signature proves nothing.

/// The low-order points of the curve as their y coordinate, little endian: for such a key a
/// signature is valid that can be made without a private key. The coordinates 0, 1 and p - 1, and
/// the two of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// True for a point of small order, with either sign of x, and for a y coordinate that is not below
/// p = 2^255 - 19: a second encoding of another key. Key pairs never have such a public key.
pub fn is_weak(key: &[u8; 32]) -> bool {
    let mut y = *key;
    y[31] &= 0x7f;
    let is_canonical = y[31] != 0x7f || y[1..31].iter().any(|byte| *byte != 0xff) || y[0] < 0xed;
    !is_canonical || SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, HEXLOWER};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Registration;
    use crate::identity::{AgentKeyPair, AgentPublicKey, Challenge, InvalidAgentKey};

    /// Every encoding of a point of small order, the non-canonical ones included.
    const WEAK: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];

    #[test]
    fn a_public_key_of_small_order_is_no_key_and_proves_nothing() {
        // R is the neutral element and S is 0: no private key was used.
        let mut signature = [0; 64];
        signature[0] = 1;
        let signature = BASE64.encode(&signature);
        for hex in WEAK {
            let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hex").try_into().expect("32 bytes");
            let key = AgentPublicKey::from_bytes(bytes);
            assert_eq!(key.to_string().parse::<AgentPublicKey>(), Err(InvalidAgentKey), "{hex}");
            for message in 0..64_u8 {
                assert!(!key.has_signed(&[message], &signature), "{hex} {message}");
            }
            let registration = Registration {
                public_key: Some(key.to_string()),
                proof: Some(signature.clone()),
                ..Registration::default()
            };
            let challenge = Challenge::from_bytes([1; 32]);
            assert_eq!(registration.proven_key(&challenge, uuid::Uuid::nil()), None, "{hex}");
        }
    }

    proptest! {
        #[test]
        fn no_key_pair_has_a_weak_key(seed in any::<[u8; 32]>()) {
            let pair = AgentKeyPair::from_seed(&seed).expect("a seed");
            prop_assert!(!is_weak(pair.public_key().as_bytes()));
        }
    }
}
