//! The file of a development key.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::signing_key::{Algorithm, SigningKey};
use crate::private_file;

/// Reads the key in `file`, or generates one and writes it there: as PEM if the extension is `pem`, otherwise as JWK.
pub(super) fn read_or_generate(file: &str, algorithm: Option<Algorithm>) -> Result<SigningKey> {
    match std::fs::read_to_string(file) {
        Ok(text) => SigningKey::read(&text, algorithm).with_context(|| format!("the key file {file}")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = SigningKey::generate(algorithm.unwrap_or(Algorithm::Rs256))?;
            let pem = Path::new(file)
                .extension()
                .is_some_and(|extension| extension == "pem");
            let text = if pem {
                key.private_pem()?
            } else {
                key.private_jwk()
            };
            private_file::create(Path::new(file), &text)
                .with_context(|| format!("cannot write the key file {file}"))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the key file {file}")),
    }
}
