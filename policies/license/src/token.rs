//! The licence: a compact JWS (RFC 7515) signed with Ed25519 (RFC 8037).

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use ed25519_compact::{PublicKey, Signature};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;

/// Longer ones are not looked at.
const MAX_LENGTH: usize = 8 * 1024;

/// What a licence says. It exists only after its signature was verified.
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

/// It is no licence, or the key has not signed it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Whether a licence holds at a time.
#[derive(Debug, PartialEq)]
pub(crate) enum Validity {
    /// For so many seconds yet; for ever, if it has no end.
    Holds(Option<f64>),
    Expired,
    NotYet,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Something that a reader must understand. There is nothing that this one does.
    crit: Option<IgnoredAny>,
}

impl License {
    pub(crate) fn verify(token: &str, key: &PublicKey) -> Result<Self, Invalid> {
        if token.len() > MAX_LENGTH {
            return Err(Invalid);
        }
        let license: Self = serde_json::from_slice(&verified(token, key)?).map_err(|_| Invalid)?;
        if license.subject.is_empty() {
            Err(Invalid)
        } else {
            Ok(license)
        }
    }

    pub(crate) fn ends(&self) -> bool {
        self.expires.is_some()
    }

    /// `now` and `leeway` in seconds. Dates can have fractions (RFC 7519, section 2).
    pub(crate) fn validity(&self, now: f64, leeway: f64) -> Validity {
        let seconds = |date: &Option<Number>| date.as_ref().and_then(Number::as_f64);
        if seconds(&self.not_before).is_some_and(|begins| now < begins - leeway) {
            return Validity::NotYet;
        }
        match seconds(&self.expires).map(|ends| ends + leeway - now) {
            Some(left) if left <= 0.0 => Validity::Expired,
            left => Validity::Holds(left),
        }
    }
}

/// The payload of a token that the key has signed.
fn verified(token: &str, key: &PublicKey) -> Result<Vec<u8>, Invalid> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(Invalid)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Invalid)?;
    // The algorithm is the configuration's choice and never the token's.
    if header.alg != "EdDSA" || header.crit.is_some() {
        return Err(Invalid);
    }
    let signature = Signature::from_slice(&decode(signature)?).map_err(|_| Invalid)?;
    key.verify(signed, &signature).map_err(|_| Invalid)?;
    decode(payload)
}

fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    Base64UrlSafeNoPadding::decode_to_vec(part, None).map_err(|_| Invalid)
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
        assert_eq!(verified(token, &key).unwrap(), b"Example of Ed25519 signing");
        assert_eq!(verified(&token.replace("hgyY", "hgyZ"), &key), Err(Invalid));
        assert_eq!(License::verify(token, &key).unwrap_err(), Invalid);
    }
}
