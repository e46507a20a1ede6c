//! Public keys as people write them: `ed25519:` and 32 bytes in Base64.

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::PublicKey;

const PREFIX: &str = "ed25519:";

/// A text that is no public key. It is not repeated: it may be the private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no public key: write ed25519: and its 32 bytes in Base64")]
pub struct InvalidPublicKey;

/// Reads a public key.
///
/// # Errors
/// If it is none, or one of the few that verify forged signatures (RFC 8032, points of small order).
pub fn parse_key(text: &str) -> Result<PublicKey, InvalidPublicKey> {
    text.strip_prefix(PREFIX)
        .and_then(|base64| Base64::decode_to_vec(base64, None).ok())
        .and_then(|bytes| PublicKey::from_slice(&bytes).ok())
        .filter(|key| key.validate().is_ok())
        .ok_or(InvalidPublicKey)
}

/// A public key as [`parse_key`] reads it.
#[must_use]
pub fn format_key(key: &PublicKey) -> String {
    format!("{PREFIX}{}", Base64::encode_to_string(**key).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn a_key_is_read_as_it_is_written() {
        assert_eq!(format_key(&parse_key(GOOD).unwrap()), GOOD);
    }

    #[test]
    fn what_is_no_key() {
        for text in [
            "",
            "ed25519:",
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUR==",
            "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            // The neutral element verifies anything.
            "ed25519:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert_eq!(parse_key(text).unwrap_err(), InvalidPublicKey, "{text}");
        }
    }
}
