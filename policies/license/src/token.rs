//! The licence: a compact JWS (RFC 7515) signed with Ed25519 (RFC 8037).

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use ed25519_compact::{PublicKey, Signature};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;

/// Maximum length of a token, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// A licence. Exists only after its signature has been verified.
#[derive(Debug, Deserialize)]
pub(crate) struct License {
    #[serde(rename = "sub")]
    pub(crate) subject: String,
    #[serde(rename = "exp")]
    expires: Option<Number>,
    #[serde(rename = "nbf")]
    not_before: Option<Number>,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    pub(crate) seats: Option<u64>,
}

/// The token is malformed, or not signed by the key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidLicense;

/// Validity of a licence at a given time.
#[derive(Debug, PartialEq)]
pub(crate) enum Validity {
    /// Valid for this many more seconds, leeway included; `None` without expiry.
    Valid(Option<f64>),
    Expired,
    NotYetValid,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Critical extensions, which a verifier must understand. This one supports none.
    crit: Option<IgnoredAny>,
}

impl License {
    pub(crate) fn verify(token: &str, key: &PublicKey) -> Result<Self, InvalidLicense> {
        if token.len() > MAX_LENGTH {
            return Err(InvalidLicense);
        }
        let license: Self =
            serde_json::from_slice(&verify_signature(token, key)?).map_err(|_| InvalidLicense)?;
        if license.subject.is_empty() {
            Err(InvalidLicense)
        } else {
            Ok(license)
        }
    }

    pub(crate) fn has_expiry(&self) -> bool {
        self.expires.is_some()
    }

    /// `now` and `leeway` are in seconds. Dates may have fractions (RFC 7519, section 2).
    pub(crate) fn validity(&self, now: f64, leeway: f64) -> Validity {
        let seconds = |date: &Option<Number>| date.as_ref().and_then(Number::as_f64);
        if seconds(&self.not_before).is_some_and(|begins| now < begins - leeway) {
            return Validity::NotYetValid;
        }
        match seconds(&self.expires).map(|expires| expires + leeway - now) {
            Some(remaining) if remaining <= 0.0 => Validity::Expired,
            remaining => Validity::Valid(remaining),
        }
    }
}

/// Verifies a token and returns its payload.
fn verify_signature(token: &str, key: &PublicKey) -> Result<Vec<u8>, InvalidLicense> {
    let (signed, signature) = token.rsplit_once('.').ok_or(InvalidLicense)?;
    let (header, payload) = signed.split_once('.').ok_or(InvalidLicense)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| InvalidLicense)?;
    // The configuration determines the algorithm, never the token.
    if header.alg != "EdDSA" || header.crit.is_some() {
        return Err(InvalidLicense);
    }
    let signature = Signature::from_slice(&decode(signature)?).map_err(|_| InvalidLicense)?;
    key.verify(signed, &signature).map_err(|_| InvalidLicense)?;
    decode(payload)
}

fn decode(part: &str) -> Result<Vec<u8>, InvalidLicense> {
    Base64UrlSafeNoPadding::decode_to_vec(part, None).map_err(|_| InvalidLicense)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_8037_verifies() {
        // Appendix A.4.
        let token = concat!(
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        let bytes = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = PublicKey::from_slice(&bytes).unwrap();
        assert_eq!(
            verify_signature(token, &key).unwrap(),
            b"Example of Ed25519 signing"
        );
        assert_eq!(
            verify_signature(&token.replace("hgyY", "hgyZ"), &key),
            Err(InvalidLicense)
        );
        assert_eq!(License::verify(token, &key).unwrap_err(), InvalidLicense);
    }
}
