//! Claims, and tokens that no signer would issue.

use std::time::{SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use serde_json::{Value, json};

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Claims of a token issued now and valid for `ttl_seconds`. A negative `ttl_seconds` gives a token that expired that
/// long ago and was issued an hour before.
#[must_use]
pub fn claims(iss: &str, aud: &str, sub: &str, ttl_seconds: i64) -> Value {
    let now = now();
    let exp = now.saturating_add(ttl_seconds);
    let iat = now.min(exp.saturating_sub(3600));
    json!({"iss": iss, "aud": aud, "sub": sub, "iat": iat, "nbf": iat, "exp": exp})
}

/// A token assembled from arbitrary parts, for those that no library issues: `"alg": "none"`, an unknown `crit`, claims
/// that are not an object.
#[must_use]
pub fn assemble(header: &Value, claims: &Value, signature: &[u8]) -> String {
    format!("{}.{}", signing_input(header, claims), base64url(signature))
}

/// The part of a token that its signature covers.
#[must_use]
pub fn signing_input(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    )
}

/// The token with one character in the middle of its signature changed.
///
/// Not the last character: its low bits may be padding, and changing those leaves the signature as it is.
#[must_use]
pub fn tamper(token: &str) -> String {
    let signature = token.rfind('.').map_or(0, |dot| dot + 1);
    let target = signature + (token.len() - signature) / 2;
    let swap = |c| if c == 'A' { 'B' } else { 'A' };
    token
        .char_indices()
        .map(|(index, c)| if index == target { swap(c) } else { c })
        .collect()
}

fn base64url(bytes: &[u8]) -> String {
    // Encoding fails only if the length of the output overflows.
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tampering_changes_one_character_of_the_signature() {
        let changed = tamper("aaaa.bbbb.cccc");
        assert_eq!(changed, "aaaa.bbbb.ccAc");
        assert_eq!(tamper(&changed), "aaaa.bbbb.ccBc");
    }

    #[test]
    fn an_expired_token_was_valid_once() {
        let claims = claims("i", "a", "s", -60);
        assert!(claims["iat"].as_i64() < claims["exp"].as_i64());
        assert!(claims["exp"].as_i64().unwrap() < now());
    }
}
