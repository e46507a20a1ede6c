//! Signers for development only: their keys are in this process.

use ed25519_compact::{KeyPair, Seed};
use postern_signers::{Registry, Use};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::error::StartError;
use crate::settings::SettingsError;
use crate::unverified_signature::UnverifiedSignature;

/// Before the secret: nothing else that is made of it has these keys.
const DOMAIN_SEPARATOR: &[u8] = b"postern development signer v1\0";
/// The shortest secret, in bytes.
const MIN_SECRET_LEN: usize = 16;

/// A signer for each use, as a KMS would have them. Their ids begin with `development-`.
pub(crate) struct DevelopmentSigner([Key; 4]);

struct Key {
    for_use: Use,
    pair: KeyPair,
    id: String,
}

impl std::fmt::Debug for DevelopmentSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids = self.0.iter().map(|key| &key.id);
        f.debug_list().entries(ids).finish()
    }
}

impl DevelopmentSigner {
    /// Signers whose keys are made of the secret, the same for the same secret; or of random numbers, without one.
    pub(crate) fn new(secret: Option<&SecretString>) -> Result<Self, StartError> {
        let seed = match secret {
            Some(secret) => secret.expose_secret().as_bytes().to_vec(),
            None => random()?.to_vec(),
        };
        if seed.len() < MIN_SECRET_LEN {
            return Err(SettingsError::ShortSecret.into());
        }
        Ok(Self(Use::ALL.map(|for_use| Key::new(for_use, &seed))))
    }

    /// The id of the one who signs for a use.
    pub(crate) fn id(&self, for_use: Use) -> Option<&str> {
        self.key(for_use).map(|key| key.id.as_str())
    }

    /// Each with its use.
    pub(crate) fn registry(&self) -> Registry {
        let keys = self.0.iter();
        Registry::from_keys(keys.map(|key| (key.id.clone(), key.pair.pk, key.for_use.into())))
    }

    /// Signs, with the key of a use.
    pub(crate) fn sign(&self, for_use: Use, message: &[u8]) -> Option<UnverifiedSignature> {
        self.key(for_use).map(|key| UnverifiedSignature {
            signature: *key.pair.sk.sign(message, None),
            signer_id: key.id.clone(),
        })
    }

    fn key(&self, for_use: Use) -> Option<&Key> {
        self.0.iter().find(|key| key.for_use == for_use)
    }
}

impl Key {
    fn new(for_use: Use, secret: &[u8]) -> Self {
        // The key for payloads is the one that a secret has always made.
        let (domain, name) = match for_use {
            Use::Payload => (String::new(), String::new()),
            _ => (format!("{for_use}\0"), format!("{for_use}-")),
        };
        let seed = Sha256::new()
            .chain_update(DOMAIN_SEPARATOR)
            .chain_update(domain)
            .chain_update(secret)
            .finalize();
        let pair = KeyPair::from_seed(Seed::new(seed.into()));
        let digest = Sha256::digest(*pair.pk);
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let id = format!("development-{name}{short}");
        Self { for_use, pair, id }
    }
}

fn random() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_for_one_secret_and_use() {
        let of = |secret: &str| DevelopmentSigner::new(Some(&SecretString::from(secret))).unwrap();
        let (one, same, other) = (
            of("sixteen bytes ok"),
            of("sixteen bytes ok"),
            of("sixteen bytes no"),
        );
        assert_eq!(one.registry(), same.registry());
        let keys = |of: &DevelopmentSigner| -> Vec<_> { of.0.iter().map(|key| *key.pair.pk).collect() };
        let mut all = [
            keys(&one),
            keys(&other),
            keys(&DevelopmentSigner::new(None).unwrap()),
        ]
        .concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12, "each use of each secret has a key of its own");
        let id = one.id(Use::Payload).unwrap();
        assert!(id.starts_with("development-") && id.len() == 20, "{id}");
        let id = one.id(Use::Checkpoint).unwrap();
        assert!(id.starts_with("development-checkpoint-"), "{id}");
        let registry = one.registry();
        assert!(
            registry
                .iter()
                .all(|(_, signer)| signer.uses().iter().count() == 1)
        );
    }

    #[test]
    fn a_short_secret_is_none() {
        let error = DevelopmentSigner::new(Some(&SecretString::from("fifteen bytes.."))).unwrap_err();
        assert!(
            matches!(error, StartError::Settings(SettingsError::ShortSecret)),
            "{error}"
        );
    }
}
