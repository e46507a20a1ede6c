//! The licence of this installation: a signed token with an expiry (`LICENSE_KEY`).
//!
//! A JWT (RFC 7519) that the licensor signs with Ed25519 (RFC 8037), or with HMAC-SHA256 if there is only a shared
//! secret. The signature is verified once, at start; the validity period is checked on each use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Decoder as _};
use jwt_simple::prelude::{
    Ed25519PublicKey, EdDSAPublicKeyLike as _, HS256Key, JWTClaims, MACLike as _, NoCustomClaims,
    VerificationOptions,
};
use secrecy::{ExposeSecret as _, SecretString};

/// Tolerated difference between the clocks of licensor and host.
const LEEWAY: Duration = Duration::from_secs(60);
/// The minimum length of a shared secret, in bytes.
const MIN_SECRET_BYTES: usize = 32;

/// The licence and the key that verifies it.
#[derive(Debug, Clone)]
pub struct Settings {
    required: bool,
    license: Option<SecretString>,
    key: Option<Key>,
}

#[derive(Clone)]
enum Key {
    Public(Ed25519PublicKey),
    Secret(SecretString),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Public(_) => "Public(..)",
            Self::Secret(_) => "Secret(..)",
        })
    }
}

/// The licence cannot be verified with these settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LicenseSettingsError {
    #[error(
        "LICENSE_PUBLIC_KEY is not an Ed25519 public key: PEM, or ed25519: and its 32 bytes in Base64, is expected"
    )]
    PublicKey,
    #[error("LICENSE_SECRET is shorter than 32 bytes")]
    Secret,
    /// There is a licence, but no key to verify it.
    #[error("LICENSE_KEY cannot be verified: set LICENSE_PUBLIC_KEY or LICENSE_PUBLIC_KEY_PATH")]
    NoKey,
}

impl Settings {
    /// Creates settings from a licence and the key that verifies it. If there is a public key, the secret is ignored:
    /// anyone who can verify with a secret could also issue licences.
    ///
    /// # Errors
    /// If the key is invalid, or there is a licence without a key.
    pub(crate) fn new(
        required: bool,
        license: Option<SecretString>,
        public_key: Option<&str>,
        secret: Option<SecretString>,
    ) -> Result<Self, LicenseSettingsError> {
        let key = match (public_key, secret) {
            (Some(text), _) => Some(Key::Public(
                parse_public_key(text).ok_or(LicenseSettingsError::PublicKey)?,
            )),
            (None, Some(secret)) if secret.expose_secret().len() < MIN_SECRET_BYTES => {
                return Err(LicenseSettingsError::Secret);
            }
            (None, Some(secret)) => Some(Key::Secret(secret)),
            (None, None) => None,
        };
        if license.is_some() && key.is_none() {
            return Err(LicenseSettingsError::NoKey);
        }
        Ok(Self {
            required,
            license,
            key,
        })
    }
}

fn parse_public_key(text: &str) -> Option<Ed25519PublicKey> {
    let text = text.trim();
    let key = match text.strip_prefix("ed25519:") {
        Some(base64) => Ed25519PublicKey::from_bytes(&Base64::decode_to_vec(base64, None).ok()?),
        None => Ed25519PublicKey::from_pem(text),
    };
    key.ok()
}

/// The verified licence.
#[derive(Debug, Clone)]
pub(crate) struct License {
    required: bool,
    state: LicenseState,
}

#[derive(Debug, Clone)]
enum LicenseState {
    Missing,
    Invalid,
    /// Signed by the licensor; the validity period is in time since the Unix epoch.
    Signed {
        from: Option<Duration>,
        until: Duration,
    },
}

/// Why a licence is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LicenseFault {
    #[error("LICENSE_REQUIRED is set, but LICENSE_KEY is not")]
    Missing,
    #[error("the licence is not signed by the licensor, or has no expiry")]
    Invalid,
    #[error("the licence has expired")]
    Expired,
    #[error("the licence is not valid yet")]
    NotYetValid,
}

impl License {
    pub(crate) fn verify(settings: &Settings) -> Self {
        let state = match (&settings.license, &settings.key) {
            (None, _) => LicenseState::Missing,
            (Some(license), Some(key)) => verify_token(license.expose_secret(), key),
            (Some(_), None) => LicenseState::Invalid,
        };
        Self {
            required: settings.required,
            state,
        }
    }

    /// Why the licence is not valid at this time; `None` if it is. A licence that is not required may be missing, but
    /// not invalid.
    pub(crate) fn fault(&self, now: SystemTime) -> Option<LicenseFault> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.state {
            LicenseState::Missing => self.required.then_some(LicenseFault::Missing),
            LicenseState::Invalid => Some(LicenseFault::Invalid),
            LicenseState::Signed { until, .. } if now >= until + LEEWAY => Some(LicenseFault::Expired),
            LicenseState::Signed { from: Some(from), .. } if now + LEEWAY < from => {
                Some(LicenseFault::NotYetValid)
            }
            LicenseState::Signed { .. } => None,
        }
    }

    /// The expiry, in seconds since the Unix epoch.
    pub(crate) fn until(&self) -> Option<u64> {
        match self.state {
            LicenseState::Signed { until, .. } => Some(until.as_secs()),
            LicenseState::Missing | LicenseState::Invalid => None,
        }
    }
}

fn verify_token(license: &str, key: &Key) -> LicenseState {
    // No licence has expired in 1970: the period is compared on each use, with the clock of that time.
    let options = VerificationOptions {
        artificial_time: Some(jwt_simple::prelude::Duration::from_secs(0)),
        accept_future: true,
        time_tolerance: None,
        max_validity: None,
        ..VerificationOptions::default()
    };
    let claims: Result<JWTClaims<NoCustomClaims>, _> = match key {
        Key::Public(key) => key.verify_token(license.trim(), Some(options)),
        Key::Secret(secret) => HS256Key::from_bytes(secret.expose_secret().as_bytes())
            .verify_token(license.trim(), Some(options)),
    };
    // A licence without expiry could not be revoked.
    match claims.map(|claims| (claims.invalid_before, claims.expires_at)) {
        Ok((from, Some(until))) => LicenseState::Signed {
            from: from.map(Into::into),
            until: until.into(),
        },
        Ok((_, None)) | Err(_) => LicenseState::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use jwt_simple::prelude::{Claims, Ed25519KeyPair, EdDSAKeyPairLike as _};

    use super::*;

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::generate()
    }

    fn token(
        sign: impl Fn(JWTClaims<NoCustomClaims>) -> String,
        from: u64,
        until: u64,
    ) -> Option<SecretString> {
        let mut claims = Claims::create(jwt_simple::prelude::Duration::from_secs(1));
        claims.invalid_before = Some(jwt_simple::prelude::Duration::from_secs(from));
        claims.expires_at = Some(jwt_simple::prelude::Duration::from_secs(until));
        Some(sign(claims).into())
    }

    fn fault(settings: &Settings, now: u64) -> Option<LicenseFault> {
        License::verify(settings).fault(UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn when_a_licence_holds() {
        let key = key();
        let license = token(|claims| key.sign(claims).unwrap(), 1_000_000, 2_000_000);
        let pem = key.public_key().to_pem();
        let settings = Settings::new(true, license, Some(&pem), None).unwrap();
        for (now, expected) in [
            (999_930, Some(LicenseFault::NotYetValid)),
            (999_950, None),
            (1_500_000, None),
            (2_000_050, None),
            (2_000_060, Some(LicenseFault::Expired)),
        ] {
            assert_eq!(fault(&settings, now), expected, "{now}");
        }
        assert_eq!(License::verify(&settings).until(), Some(2_000_000));
    }

    #[test]
    fn what_is_no_licence() {
        let (key, other) = (key(), self::key());
        let pem = key.public_key().to_pem();
        let secret = || Some(SecretString::from("0123456789abcdef0123456789abcdef"));
        let by_secret = HS256Key::from_bytes(b"0123456789abcdef0123456789abcdef");
        let of_another = token(|claims| other.sign(claims).unwrap(), 0, 2_000_000);
        let shared = token(|claims| by_secret.authenticate(claims).unwrap(), 0, 2_000_000);
        let cases = [
            (false, None, Some(pem.as_str()), None, None),
            (true, None, Some(pem.as_str()), None, Some(LicenseFault::Missing)),
            (
                true,
                Some("x.y.z".into()),
                Some(pem.as_str()),
                None,
                Some(LicenseFault::Invalid),
            ),
            (
                false,
                of_another,
                Some(pem.as_str()),
                None,
                Some(LicenseFault::Invalid),
            ),
            (true, shared.clone(), None, secret(), None),
            // If there is a public key, licences signed with the secret are rejected.
            (
                true,
                shared,
                Some(pem.as_str()),
                secret(),
                Some(LicenseFault::Invalid),
            ),
        ];
        for (i, (required, license, public, secret, expected)) in cases.into_iter().enumerate() {
            let settings = Settings::new(required, license, public, secret).unwrap();
            assert_eq!(fault(&settings, 1_000_000), expected, "case {i}");
        }
    }

    #[test]
    fn what_verifies_nothing() {
        let license = || Some(SecretString::from("x.y.z"));
        for (license, public, secret, expected) in [
            (license(), None, None, LicenseSettingsError::NoKey),
            (license(), Some("no key"), None, LicenseSettingsError::PublicKey),
            (
                license(),
                None,
                Some("short".into()),
                LicenseSettingsError::Secret,
            ),
        ] {
            assert_eq!(
                Settings::new(true, license, public, secret).unwrap_err(),
                expected
            );
        }
    }
}
