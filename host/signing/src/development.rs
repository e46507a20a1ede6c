//! A signer of no worth, for development: its key is in this process.

use ed25519_compact::{KeyPair, PublicKey, Seed};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::answer::Answer;
use crate::error::StartError;
use crate::settings::SettingsError;

/// Before the secret: nothing else that is made of it has this key.
const DOMAIN: &[u8] = b"postern development signer v1\0";
/// The shortest secret, in bytes.
const SHORTEST: usize = 16;

/// The signer. Its id begins with `development-`.
pub(crate) struct Development {
    pair: KeyPair,
    id: String,
}

impl std::fmt::Debug for Development {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Development")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Development {
    /// A signer whose key is made of the secret, the same for the same secret; or of random numbers, without one.
    pub(crate) fn new(secret: Option<&SecretString>) -> Result<Self, StartError> {
        let seed = match secret {
            Some(secret) => of_secret(secret.expose_secret().as_bytes())?,
            None => random()?,
        };
        let pair = KeyPair::from_seed(Seed::new(seed));
        let id = format!("development-{}", short_digest(&pair.pk));
        Ok(Self { pair, id })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.pair.pk
    }

    pub(crate) fn sign(&self, payload: &[u8]) -> Answer {
        Answer {
            signature: *self.pair.sk.sign(payload, None),
            signer_id: self.id.clone(),
        }
    }
}

fn of_secret(secret: &[u8]) -> Result<[u8; 32], SettingsError> {
    if secret.len() < SHORTEST {
        return Err(SettingsError::ShortSecret);
    }
    Ok(Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(secret)
        .finalize()
        .into())
}

fn random() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(seed)
}

/// The first 8 hex digits of the key's SHA-256.
fn short_digest(key: &PublicKey) -> String {
    let digest = Sha256::digest(**key);
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_for_one_secret() {
        let of = |secret: &str| Development::new(Some(&SecretString::from(secret))).unwrap();
        let (one, same, other) = (
            of("sixteen bytes ok"),
            of("sixteen bytes ok"),
            of("sixteen bytes no"),
        );
        assert_eq!((one.id(), one.key()), (same.id(), same.key()));
        assert_ne!(one.key(), other.key());
        assert!(
            one.id().starts_with("development-") && one.id().len() == 20,
            "{}",
            one.id()
        );
        assert_ne!(
            Development::new(None).unwrap().key(),
            Development::new(None).unwrap().key()
        );
    }

    #[test]
    fn a_short_secret_is_none() {
        let error = Development::new(Some(&SecretString::from("fifteen bytes.."))).unwrap_err();
        assert!(
            matches!(error, StartError::Settings(SettingsError::ShortSecret)),
            "{error}"
        );
    }
}
