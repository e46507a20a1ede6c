//! Request signatures, and digests of API keys.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The value of GitHub's `X-Hub-Signature-256` header for a body.
#[must_use]
pub fn github(secret: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> String {
    let digest = hmac_sha256(secret.as_ref(), body.as_ref());
    format!("sha256={}", hex(&digest))
}

/// HMAC-SHA-256 of a message under a key of any length.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC accepts keys of any length (RFC 2104 hashes longer ones), so this does not fail.
    #[expect(clippy::expect_used, reason = "HMAC accepts keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The hexadecimal signature of a request in the `keyed` scheme, as docs/configuration.md specifies it.
#[must_use]
pub fn keyed(secret: &str, method: &str, target: &str, timestamp: u64, nonce: &str, body: &[u8]) -> String {
    let digest = hex(&Sha256::digest(body));
    let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{digest}");
    hex(&hmac_sha256(secret.as_bytes(), text.as_bytes()))
}

/// The digest of an API key as `gate.yaml` names it: `sha256:` and the SHA-256 in hexadecimal.
#[must_use]
pub fn api_key_digest(key: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", hex(&Sha256::digest(key.as_ref())))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    /// The example in GitHub's documentation of webhook validation.
    #[test]
    fn github_signatures_match_the_documented_example() {
        assert_eq!(
            super::github("It's a Secret to Everybody", "Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
