//! Signers, and the verification of their signatures.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ed25519_compact::{PublicKey, Signature};

use crate::{Use, Uses};

/// Whether a signer may make new signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// The signer may not sign. Its signatures from the time of its validity still verify.
    Retired,
}

impl Status {
    /// The name in `signers.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// A signer of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Signer {
    pub key: PublicKey,
    pub status: Status,
    /// The uses that its signatures are valid for; `None` if the registry does not set them, which means all uses.
    pub uses: Option<Uses>,
    /// Start of validity, inclusive.
    pub valid_from: Option<SystemTime>,
    /// End of validity, exclusive.
    pub valid_until: Option<SystemTime>,
    /// Time of retirement, if known. Signatures in a log before the event of the retirement are valid whatever their time.
    pub retired_at: Option<SystemTime>,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signer is not in the registry.
    #[error("the signer is not in the registry")]
    UnknownSigner,
    /// The signer is retired, and the signature is new or from after the retirement.
    #[error("the signer is retired")]
    Retired,
    /// The signature is from before the signer's validity.
    #[error("the signer was not yet valid")]
    NotYetValid,
    /// The signature is from after the signer's validity.
    #[error("the signer was no longer valid")]
    Expired,
    /// The signer does not have this use.
    #[error("the signer's `uses` do not include {0}")]
    WrongUse(Use),
    /// The signature does not verify with the signer's key.
    #[error("the signature is wrong")]
    Invalid,
}

impl SignatureError {
    /// The reason code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownSigner => "signer_unknown",
            Self::Retired => "signer_retired",
            Self::NotYetValid => "signer_not_yet_valid",
            Self::Expired => "signer_expired",
            Self::WrongUse(_) => "signer_use",
            Self::Invalid => "signature_wrong",
        }
    }
}

impl Signer {
    /// The uses that its signatures are valid for.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.unwrap_or(Uses::ALL)
    }

    /// Checks that it may make a new signature for a use.
    ///
    /// # Errors
    /// If it is retired, lacks the use, or is outside its validity.
    pub fn may_sign(&self, for_use: Use, now: SystemTime) -> Result<(), SignatureError> {
        if self.status == Status::Retired {
            return Err(SignatureError::Retired);
        }
        self.check_validity(for_use, now)
    }

    fn check_validity(&self, for_use: Use, made: SystemTime) -> Result<(), SignatureError> {
        if !self.uses().contains(for_use) {
            return Err(SignatureError::WrongUse(for_use));
        }
        if self.valid_from.is_some_and(|from| made < from) {
            return Err(SignatureError::NotYetValid);
        }
        if self.valid_until.is_some_and(|until| made >= until) {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }

    /// Whether it was retired at or before a time. False if the time of retirement is unknown.
    #[must_use]
    pub fn is_retired_at(&self, made: SystemTime) -> bool {
        self.retired_at.is_some_and(|at| made >= at)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Invalid)?;
        self.key
            .verify(message, &signature)
            .map_err(|_| SignatureError::Invalid)
    }
}

/// The trusted signers. An empty registry verifies nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    signers: BTreeMap<String, Signer>,
}

impl Registry {
    pub(crate) fn new(signers: BTreeMap<String, Signer>) -> Self {
        Self { signers }
    }

    /// A registry of signers that are valid at any time, each for its uses: for development signers.
    #[must_use]
    pub fn from_keys(keys: impl IntoIterator<Item = (String, PublicKey, Uses)>) -> Self {
        let signer = |key, uses| Signer {
            key,
            status: Status::Active,
            uses: Some(uses),
            valid_from: None,
            valid_until: None,
            retired_at: None,
        };
        let signers = keys.into_iter().map(|(id, key, uses)| (id, signer(key, uses)));
        Self::new(signers.collect())
    }

    /// The signer with an id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Signer> {
        self.signers.get(id)
    }

    /// All signers, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Signer)> {
        self.signers.iter().map(|(id, signer)| (id.as_str(), signer))
    }

    /// Whether it has no signers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signers.is_empty()
    }

    /// Verifies a new signature (Ed25519, RFC 8032) for a use.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify_new(
        &self,
        id: &str,
        for_use: Use,
        message: &[u8],
        signature: &[u8],
        now: SystemTime,
    ) -> Result<(), SignatureError> {
        let signer = self.get(id).ok_or(SignatureError::UnknownSigner)?;
        signer.may_sign(for_use, now)?;
        signer.verify(message, signature)
    }

    /// Verifies a signature that was recorded as made at a time. A signature by a retired signer is accepted if it was made
    /// before the retirement.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify_recorded(
        &self,
        id: &str,
        for_use: Use,
        message: &[u8],
        signature: &[u8],
        made: SystemTime,
    ) -> Result<(), SignatureError> {
        let signer = self.verify_ignoring_retirement(id, for_use, message, signature, made)?;
        if signer.is_retired_at(made) {
            return Err(SignatureError::Retired);
        }
        Ok(())
    }

    /// As [`Registry::verify_recorded`], without the check of the retirement: the caller compares the positions of the
    /// signature and the retirement in a log, or uses [`Signer::is_retired_at`] if it does not know them.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify_ignoring_retirement(
        &self,
        id: &str,
        for_use: Use,
        message: &[u8],
        signature: &[u8],
        made: SystemTime,
    ) -> Result<&Signer, SignatureError> {
        let signer = self.get(id).ok_or(SignatureError::UnknownSigner)?;
        signer.check_validity(for_use, made)?;
        signer.verify(message, signature)?;
        Ok(signer)
    }
}

/// Whether a text is a valid signer id: 1 to 128 letters, digits, `.`, `_`, `-`, `:` and `/`. Ids are safe in logs, labels
/// and the signature lines of notes.
#[must_use]
pub fn is_signer_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:/".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use ed25519_compact::{KeyPair, Seed};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn signatures_are_verified_by_key_time_use_and_status() {
        let pair = KeyPair::from_seed(Seed::new([7; 32]));
        let good = pair.sk.sign(b"message", None);
        let of_another = KeyPair::from_seed(Seed::new([8; 32])).sk.sign(b"message", None);
        let registry = |status| {
            let signer = Signer {
                key: pair.pk,
                status,
                uses: Some(Use::Payload.into()),
                valid_from: Some(at(100)),
                valid_until: Some(at(200)),
                retired_at: None,
            };
            Registry::new(BTreeMap::from([("one".to_owned(), signer)]))
        };
        let (active, retired) = (registry(Status::Active), registry(Status::Retired));
        let cases = [
            ("one", &b"message"[..], &good[..], 100, Ok(())),
            ("one", &b"message"[..], &good[..], 199, Ok(())),
            (
                "one",
                &b"message"[..],
                &good[..],
                99,
                Err(SignatureError::NotYetValid),
            ),
            (
                "one",
                &b"message"[..],
                &good[..],
                200,
                Err(SignatureError::Expired),
            ),
            (
                "two",
                &b"message"[..],
                &good[..],
                150,
                Err(SignatureError::UnknownSigner),
            ),
            (
                "one",
                &b"massage"[..],
                &good[..],
                150,
                Err(SignatureError::Invalid),
            ),
            (
                "one",
                &b"message"[..],
                &of_another[..],
                150,
                Err(SignatureError::Invalid),
            ),
            (
                "one",
                &b"message"[..],
                &good[..63],
                150,
                Err(SignatureError::Invalid),
            ),
            (
                "one",
                &b"message"[..],
                &b""[..],
                150,
                Err(SignatureError::Invalid),
            ),
        ];
        for (id, message, signature, made, expected) in cases {
            assert_eq!(
                active.verify_new(id, Use::Payload, message, signature, at(made)),
                expected,
                "{id} {made}"
            );
            assert_eq!(
                retired.verify_recorded(id, Use::Payload, message, signature, at(made)),
                expected,
                "{id} {made}"
            );
        }
        assert_eq!(
            retired.verify_new("one", Use::Payload, &b"message"[..], &good[..], at(150)),
            Err(SignatureError::Retired)
        );
        for other in [Use::Manifest, Use::Checkpoint, Use::Rotation] {
            let refused = Err(SignatureError::WrongUse(other));
            assert_eq!(
                active.verify_new("one", other, b"message", &good[..], at(150)),
                refused
            );
            assert_eq!(
                retired.verify_recorded("one", other, b"message", &good[..], at(150)),
                refused
            );
        }
    }

    #[test]
    fn ids_are_validated() {
        for (text, expected) in [
            ("kernel-2026", true),
            ("projects/p/keys/1:v2", true),
            ("", false),
            ("two words", false),
            ("plus+", false),
            ("línea", false),
        ] {
            assert_eq!(is_signer_id(text), expected, "{text}");
        }
        assert!(is_signer_id(&"x".repeat(128)) && !is_signer_id(&"x".repeat(129)));
    }
}
