//! Signers for development only: their keys are held in this process.

use ed25519_compact::{KeyPair, Seed};
use postern_signers::{Registry, Use};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::error::StartError;
use crate::settings::SettingsError;
use crate::unverified_signature::UnverifiedSignature;

/// Hashed before the secret, so that nothing else derived from the secret has the same keys.
const DOMAIN_SEPARATOR: &[u8] = b"postern development signer v1\0";
/// Minimum length of the secret, in bytes.
const MIN_SECRET_LEN: usize = 16;

/// One signer per use, as a KMS would have them. Their ids begin with `development-`.
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
    /// Derives the keys from the secret, always the same keys for a secret; without one, from a random seed.
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

    /// The id of the signer for a use.
    pub(crate) fn id(&self, for_use: Use) -> Option<&str> {
        self.key(for_use).map(|key| key.id.as_str())
    }

    /// The registry of these signers, each with its use.
    pub(crate) fn registry(&self) -> Registry {
        let keys = self.0.iter();
        Registry::from_keys(keys.map(|key| (key.id.clone(), key.pair.pk, key.for_use.into())))
    }

    /// Signs with the key for a use.
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
        // The payload key predates uses: no use is hashed, so that existing secrets keep their key.
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
    fn each_secret_and_use_has_its_own_key() {
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
    fn a_short_secret_is_rejected() {
        let error = DevelopmentSigner::new(Some(&SecretString::from("fifteen bytes.."))).unwrap_err();
        assert!(
            matches!(error, StartError::Settings(SettingsError::ShortSecret)),
            "{error}"
        );
    }
}
