//! A key in software, for development only.

use std::path::{Path, PathBuf};

use ed25519_compact::{KeyPair, SecretKey, Seed};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret_file::{self, Access};

/// The software key cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SoftwareError {
    /// The file cannot be used.
    #[error("development.key: {}: {reason}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error, without any part of the file.
        reason: String,
    },
    /// No random bytes are available.
    #[error("cannot get random bytes from the operating system: {0}")]
    Random(#[from] getrandom::Error),
}

/// Reads the key from a file, or generates one.
pub(crate) fn key(file: Option<&Path>) -> Result<KeyPair, SoftwareError> {
    match file {
        Some(path) => read(path).map_err(|reason| SoftwareError::File {
            path: path.to_owned(),
            reason,
        }),
        None => {
            let mut seed = Zeroizing::new([0; Seed::BYTES]);
            getrandom::fill(&mut *seed)?;
            Ok(KeyPair::from_seed(Seed::new(*seed)))
        }
    }
}

/// Errors do not contain any part of the file.
fn read(path: &Path) -> Result<KeyPair, String> {
    let text = secret_file::read(path, Access::Owner)?;
    let secret = SecretKey::from_pem(&text).map_err(|_| {
        "holds no Ed25519 private key in PEM; `postern policy keygen` generates one".to_owned()
    })?;
    Ok(KeyPair {
        pk: secret.public_key(),
        sk: secret,
    })
}

/// The signer id of a software key. It is not mistaken for the id of a token's key.
pub(crate) fn id(key: &KeyPair) -> String {
    let digest = Sha256::digest(&key.pk[..]);
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("development-{short}")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_of_its_owner_alone_gives_the_same_key_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.pem");
        let made = key(None).unwrap();
        fs::write(&path, made.sk.to_pem()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key(Some(&path)).unwrap().pk, made.pk);
        assert!(id(&made).starts_with("development-") && id(&made).len() == 20);
        assert_ne!(id(&made), id(&key(None).unwrap()));

        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = key(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");

        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hunter2").unwrap();
        let error = key(Some(&path)).unwrap_err().to_string();
        assert!(
            error.contains("no Ed25519 private key") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
