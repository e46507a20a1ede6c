//! Signers, and what makes a signature of theirs count.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ed25519_compact::{PublicKey, Signature};

use crate::{Use, Uses};

/// Whether a signer may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Active,
    /// It may not any more. What it signed while it was valid still verifies.
    Retired,
}

impl Status {
    /// Its name in `signers.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// One who signs.
#[derive(Debug, Clone, PartialEq)]
pub struct Signer {
    /// Verifies what it signs.
    pub key: PublicKey,
    /// Whether it may sign.
    pub status: Status,
    /// What its signatures count for; nothing, if the registry does not say: then for everything.
    pub uses: Option<Uses>,
    /// The first moment it may, if there is one.
    pub valid_from: Option<SystemTime>,
    /// The first moment it may not any more, if there is one.
    pub valid_until: Option<SystemTime>,
    /// When it was retired, if it is known. What stands in a log before the log says so counts whatever its time.
    pub retired_at: Option<SystemTime>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The registry has no signer of this id.
    #[error("the registry knows no such signer")]
    UnknownSigner,
    /// The signer is retired, and this would be a new signature.
    #[error("the signer is retired")]
    Retired,
    /// It was made before the signer became valid.
    #[error("the signer was not valid yet")]
    NotYetValid,
    /// It was made when the signer was not valid any more.
    #[error("the signer was not valid any more")]
    Expired,
    /// The signer signs other things.
    #[error("the signer's `uses` do not name {0}")]
    WrongUse(Use),
    /// It is no signature of this signer over this message.
    #[error("the signature is wrong")]
    Invalid,
}

impl SignatureError {
    /// Its reason code.
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
    /// What its signatures count for.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.unwrap_or(Uses::ALL)
    }

    /// Whether it may sign something new for a use.
    ///
    /// # Errors
    /// Why not.
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

    /// Whether it was retired by a moment, as far as time tells.
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

/// The signers that count. An empty registry verifies nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    signers: BTreeMap<String, Signer>,
}

impl Registry {
    pub(crate) fn new(signers: BTreeMap<String, Signer>) -> Self {
        Self { signers }
    }

    /// A registry of signers that are always valid, each for its uses: the development signer's.
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

    /// The signer of an id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Signer> {
        self.signers.get(id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Signer)> {
        self.signers.iter().map(|(id, signer)| (id.as_str(), signer))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signers.is_empty()
    }

    /// Verifies a signature (Ed25519, RFC 8032) that was made just now, for a use.
    ///
    /// # Errors
    /// Why it does not count.
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

    /// Verifies a signature that a record says was made at a moment: that of a retired signer counts too, if it was made
    /// before that.
    ///
    /// # Errors
    /// Why it does not count.
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

    /// [`Registry::verify_recorded`], but for whether the signer was retired by then: that is left to whoever knows where
    /// the signature and the retirement stand in a log, and to [`Signer::is_retired_at`] where nobody does.
    ///
    /// # Errors
    /// Why it does not count.
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

/// Whether a text can be a signer's id: 1 to 128 letters, digits, `.`, `_`, `-`, `:` and `/`. So it fits into logs,
/// labels and the signature lines of notes.
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
    fn which_signatures_count() {
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
    fn ids() {
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
