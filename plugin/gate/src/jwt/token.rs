//! Parses tokens. Nothing in the result is verified yet.

use std::time::Duration;

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use postern_config::json;
use serde_json::{Map, Value};

use crate::Reason;
use crate::config::Expiry;
use crate::identity::claim;

/// The longest token that is parsed, in bytes.
pub(crate) const MAX_TOKEN: usize = 16 * 1024;

/// Claims that must be strings (RFC 7519, sections 4.1.1, 4.1.2 and 4.1.7).
const STRINGS: [&str; 3] = ["iss", "sub", "jti"];

/// A token's unverified contents.
pub(crate) struct UnverifiedToken {
    pub(crate) algorithm: String,
    pub(crate) kid: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

/// Splits a compact-serialised token into the signed text and the decoded signature.
#[must_use]
pub fn split_token(token: &str) -> Option<(&str, Vec<u8>)> {
    let (signed, signature) = token.rsplit_once('.')?;
    Some((
        signed,
        Base64UrlSafeNoPadding::decode_to_vec(signature, None).ok()?,
    ))
}

impl UnverifiedToken {
    /// Parses a compact-serialised token (RFC 7515, section 7.1), in the same way for every algorithm and every
    /// verifier: the contents of a token must not depend on these.
    pub(crate) fn read(token: &str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::TokenTooLarge);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::TokenMalformed);
        };
        let header = object(header)?;
        if header.contains_key("crit") {
            // RFC 7515, section 4.1.11: no extension is supported.
            return Err(Reason::TokenCritical);
        }
        let algorithm = text(&header, "alg")?.ok_or(Reason::TokenMalformed)?;
        if text(&header, "typ")?.is_some_and(|typ| !is_jwt(typ)) {
            return Err(Reason::TokenMalformed);
        }
        let claims = object(payload)?;
        for name in STRINGS {
            text(&claims, name)?;
        }
        check_audience(&claims)?;
        Ok(Self {
            algorithm: algorithm.to_owned(),
            kid: text(&header, "kid")?.map(str::to_owned),
            claims,
        })
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// `aud` is one string or a list of them (RFC 7519, section 4.1.3).
    pub(crate) fn names_audience(&self, accepted: &[String]) -> bool {
        let known = |value: &Value| {
            value
                .as_str()
                .is_some_and(|aud| accepted.iter().any(|a| a == aud))
        };
        match self.claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(known),
            Some(one) => known(one),
            None => false,
        }
    }

    pub(crate) fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path)
    }
}

/// Decodes a part of a token: a JSON object without duplicate members at any depth (RFC 7515, section 4; RFC 7519,
/// section 4). Parsers differ in which of two they use.
fn object(part: &str) -> Result<Map<String, Value>, Reason> {
    let json = Base64UrlSafeNoPadding::decode_to_vec(part, None).map_err(|_| Reason::TokenMalformed)?;
    json::strict_object(&json).map_err(|_| Reason::TokenMalformed)
}

/// A member that must be a string where it is present.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Reason> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::TokenMalformed),
    }
}

fn check_audience(claims: &Map<String, Value>) -> Result<(), Reason> {
    match claims.get("aud") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(audiences)) if audiences.iter().all(Value::is_string) => Ok(()),
        Some(_) => Err(Reason::TokenMalformed),
    }
}

/// Whether `typ` is that of a JWT. Other types must not be accepted as JWTs (RFC 8725, section 3.11).
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_uppercase();
    typ == "JWT" || typ.ends_with("+JWT")
}

/// The time range in which a token is valid (RFC 7519, sections 4.1.4 to 4.1.6), in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Validity {
    not_before: Option<f64>,
    expires: Option<f64>,
}

impl Validity {
    pub(crate) fn read(claims: &Map<String, Value>, expiry: Expiry) -> Result<Self, Reason> {
        let date = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|d| d.is_finite() && *d >= 0.0)
                .map(Some)
                .ok_or(Reason::TokenMalformed),
        };
        let (issued, not_before, expires) = (date("iat")?, date("nbf")?, date("exp")?);
        if expires.is_none() && expiry == Expiry::Required {
            return Err(Reason::TokenExpiryMissing);
        }
        // A token issued in the future is forged, or the issuer's clock is off by more than the leeway.
        let not_before = match (issued, not_before) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        Ok(Self { not_before, expires })
    }

    /// Checks the token at `now`, the time since the Unix epoch.
    pub(crate) fn check(&self, now: Duration, leeway: Duration) -> Result<(), Reason> {
        let (now, leeway) = (now.as_secs_f64(), leeway.as_secs_f64());
        if self.expires.is_some_and(|expires| now >= expires + leeway) {
            return Err(Reason::TokenExpired);
        }
        if self.not_before.is_some_and(|start| now + leeway < start) {
            return Err(Reason::TokenNotYetValid);
        }
        Ok(())
    }
}
