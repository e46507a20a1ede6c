//! The text form of public keys: `ed25519:` followed by 32 bytes in Base64.

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::PublicKey;

const PREFIX: &str = "ed25519:";

/// The text is not a public key. It is not quoted: it may be a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a public key: write ed25519: followed by its 32 bytes in Base64")]
pub struct InvalidPublicKey;

/// Parses a public key.
///
/// # Errors
/// If the text is not a public key, or the key is a point of small order, which verifies forged signatures (RFC 8032).
pub fn parse_key(text: &str) -> Result<PublicKey, InvalidPublicKey> {
    text.strip_prefix(PREFIX)
        .and_then(|base64| Base64::decode_to_vec(base64, None).ok())
        .and_then(|bytes| PublicKey::from_slice(&bytes).ok())
        .filter(|key| key.validate().is_ok())
        .ok_or(InvalidPublicKey)
}

/// Formats a public key as [`parse_key`] accepts it.
#[must_use]
pub fn format_key(key: &PublicKey) -> String {
    format!("{PREFIX}{}", Base64::encode_to_string(**key).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn formatting_and_parsing_are_inverse() {
        assert_eq!(format_key(&parse_key(GOOD).unwrap()), GOOD);
    }

    #[test]
    fn invalid_keys_are_rejected() {
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
