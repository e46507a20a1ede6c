//! `CKA_EC_POINT` of an Ed25519 key.
//!
//! According to PKCS#11 2.40 it is the point as a DER OCTET STRING; according to 3.0, for Edwards curves, the plain
//! bytes of RFC 8032. Tokens do either.

use ed25519_compact::PublicKey;

/// The tag and length of an OCTET STRING of 32 bytes.
const OCTET_STRING: [u8; 2] = [0x04, 0x20];

/// `CKA_EC_POINT` does not hold an Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// The encoding is neither of the two.
    #[error(
        "its CKA_EC_POINT has {0} bytes and is neither the 32 of an Ed25519 key nor a DER OCTET STRING of them"
    )]
    Encoding(usize),
    /// It is not on the curve, or one of the few that verify forged signatures (RFC 8032, points of small order).
    #[error("its CKA_EC_POINT is not a valid point for an Ed25519 key")]
    Weak,
}

/// Parses the public key in `CKA_EC_POINT`.
///
/// # Errors
/// If it is not an Ed25519 public key.
pub fn public_key(point: &[u8]) -> Result<PublicKey, PointError> {
    let bytes = match point.split_at_checked(2) {
        _ if point.len() == PublicKey::BYTES => point,
        Some((head, bytes)) if head == OCTET_STRING => bytes,
        _ => return Err(PointError::Encoding(point.len())),
    };
    let key = PublicKey::from_slice(bytes).map_err(|_| PointError::Encoding(point.len()))?;
    key.validate().map_err(|_| PointError::Weak)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8032, section 7.1, test 1.
    const KEY: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];

    #[test]
    fn both_forms_are_read() {
        let wrapped = [&OCTET_STRING[..], &KEY].concat();
        for point in [&KEY[..], &wrapped] {
            assert_eq!(*public_key(point).unwrap(), KEY);
        }
    }

    #[test]
    fn a_key_that_looks_wrapped_is_read_as_it_is() {
        // 32 bytes are a key, whatever they begin with.
        let begins = |seed: &[u8; 32]| {
            ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(*seed)).pk[0] == 0x04
        };
        let seed = (0..=u16::MAX).map(|n| {
            let mut seed = [7; 32];
            seed[..2].copy_from_slice(&n.to_be_bytes());
            seed
        });
        let seed = seed.into_iter().find(begins).unwrap();
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(seed));
        assert_eq!(public_key(&pair.pk[..]).unwrap(), pair.pk);
    }

    #[test]
    fn invalid_points_are_rejected() {
        let neutral = [&[1][..], &[0; 31]].concat();
        for (point, expected) in [
            (Vec::new(), PointError::Encoding(0)),
            (vec![0x04], PointError::Encoding(1)),
            (KEY[1..].to_vec(), PointError::Encoding(31)),
            ([&[0x04, 0x21][..], &KEY].concat(), PointError::Encoding(34)),
            ([&[0x03, 0x20][..], &KEY].concat(), PointError::Encoding(34)),
            ([&[0x04, 0x20, 0x00][..], &KEY].concat(), PointError::Encoding(35)),
            ([&[0x04, 0x39][..], &[0; 57]].concat(), PointError::Encoding(59)),
            (neutral, PointError::Weak),
        ] {
            assert_eq!(public_key(&point), Err(expected), "{point:?}");
        }
    }
}
