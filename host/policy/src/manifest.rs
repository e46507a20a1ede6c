//! The signed list of modules: which there are, what each may be granted, and the cases it must answer.
//!
//! A manifest is a JSON document. Its signatures are Ed25519 over [`CONTEXT`] and the canonical form (RFC 8785) of
//! all the rest, so that it can be reformatted without being signed anew, and nothing in it can be changed. What is
//! verified is what is used: the canonical form is made of the values that were read.

use std::collections::{BTreeMap, BTreeSet};

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::{PublicKey, SecretKey, Signature as Ed25519};
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::grants::Capability;

/// What a signature is over, before the canonical form: a signature made for something else is none of a manifest.
const CONTEXT: &[u8] = b"postern policy manifest v1\n";

/// The signed list of modules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format: 1.
    pub version: u32,
    /// The modules, by name.
    pub modules: BTreeMap<String, Listed>,
    /// Who vouches for it.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// A module of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its file, seen from the manifest's directory.
    pub file: String,
    /// The digest of the file.
    pub digest: Digest,
    /// The capabilities that settings may grant it: no more than these.
    #[serde(default)]
    pub grants: BTreeSet<Capability>,
    /// Its test cases, which it must answer before it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<ListedFile>,
}

/// A file of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// The file, seen from the manifest's directory.
    pub file: String,
    /// Its digest.
    pub digest: Digest,
}

/// A signature over a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The name under which the host knows the signer's public key.
    pub signer: String,
    /// The Ed25519 signature, in Base64.
    pub signature: String,
}

/// Whose signature counts, by name.
pub type Signers = BTreeMap<String, PublicKey>;

/// Why a manifest does not vouch for anything.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error("not a manifest: {0}")]
    Form(#[from] serde_json::Error),
    /// It is of a version that this program does not know.
    #[error("version {0}; this program knows version 1")]
    Version(u32),
    /// There is nobody whose signature would count.
    #[error(
        "there are no signers in the settings: name the public keys of those who may sign, under `signers`"
    )]
    NoSigners,
    /// Nobody signed it.
    #[error("it is not signed: sign it with `postern policy sign`")]
    Unsigned,
    /// Nobody who signed it counts.
    #[error("signed by nobody whom the settings name; it names {0}")]
    UnknownSigners(String),
    /// A signature of a known signer is wrong.
    #[error(
        "the signature of `{0}` is wrong: the manifest was changed after it was signed, or another key was used"
    )]
    Wrong(String),
}

impl Manifest {
    /// Reads a manifest. Nothing in it counts before [`Manifest::verify`].
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(text)?;
        match manifest.version {
            1 => Ok(manifest),
            other => Err(ManifestError::Version(other)),
        }
    }

    /// Who of the known signers vouches for it: at least one. A wrong signature of a known signer is an error even
    /// beside a good one: someone changed something.
    ///
    /// # Errors
    /// If nobody does.
    pub fn verify(&self, signers: &Signers) -> Result<Vec<String>, ManifestError> {
        if signers.is_empty() {
            return Err(ManifestError::NoSigners);
        }
        if self.signatures.is_empty() {
            return Err(ManifestError::Unsigned);
        }
        let message = self.message()?;
        let mut good = Vec::new();
        for Signature { signer, signature } in &self.signatures {
            let Some(key) = signers.get(signer) else { continue };
            let verified = Base64::decode_to_vec(signature, None)
                .ok()
                .and_then(|bytes| Ed25519::from_slice(&bytes).ok())
                .is_some_and(|signature| key.verify(&message, &signature).is_ok());
            if !verified {
                return Err(ManifestError::Wrong(signer.clone()));
            }
            good.push(signer.clone());
        }
        if good.is_empty() {
            let named: Vec<_> = self
                .signatures
                .iter()
                .map(|s| format!("`{}`", s.signer.escape_debug()))
                .collect();
            return Err(ManifestError::UnknownSigners(named.join(", ")));
        }
        Ok(good)
    }

    /// Adds a signature, or renews the one of the same signer.
    ///
    /// # Errors
    /// If the manifest has no canonical form.
    pub fn sign(&mut self, signer: &str, key: &SecretKey) -> Result<(), ManifestError> {
        let signature = key.sign(self.message()?, None);
        self.signatures.retain(|signature| signature.signer != signer);
        self.signatures.push(Signature {
            signer: signer.to_owned(),
            signature: Base64::encode_to_string(*signature).unwrap_or_default(),
        });
        Ok(())
    }

    fn message(&self) -> Result<Vec<u8>, ManifestError> {
        let unsigned = Self {
            signatures: Vec::new(),
            ..self.clone()
        };
        let canonical = serde_json_canonicalizer::to_vec(&unsigned)?;
        Ok([CONTEXT, &canonical].concat())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_compact::{KeyPair, Seed};

    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(Seed::new([seed; 32]))
    }

    fn manifest() -> Manifest {
        let digest = Digest::of(b"module");
        let text = format!(
            r#"{{"version": 1, "modules": {{"rbac": {{"file": "rbac.wasm", "digest": "{digest}", "grants": ["config"],
                "cases": {{"file": "rbac.cases.yaml", "digest": "{digest}"}}}}}}}}"#
        );
        Manifest::parse(text.as_bytes()).unwrap()
    }

    fn signers(names: &[(&str, u8)]) -> Signers {
        names
            .iter()
            .map(|(name, seed)| ((*name).to_owned(), key(*seed).pk))
            .collect()
    }

    #[test]
    fn a_signed_manifest_survives_reformatting_and_no_change() {
        let mut signed = manifest();
        signed.sign("ann", &key(1).sk).unwrap();
        signed.sign("bob", &key(2).sk).unwrap();
        let known = signers(&[("ann", 1), ("eve", 3)]);
        assert_eq!(signed.verify(&known).unwrap(), ["ann"]);

        let pretty = serde_json::to_vec_pretty(&signed).unwrap();
        assert_eq!(Manifest::parse(&pretty).unwrap().verify(&known).unwrap(), ["ann"]);

        let text = String::from_utf8(pretty).unwrap();
        for (from, to) in [
            ("rbac.wasm", "evil.wasm"),
            ("\"config\"", "\"config\", \"http\""),
            ("\"rbac\"", "\"other\""),
            (&Digest::of(b"module").hex(), &Digest::of(b"evil").hex()),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let result = Manifest::parse(changed.as_bytes()).unwrap().verify(&known);
            assert!(
                matches!(result, Err(ManifestError::Wrong(_))),
                "{from}: {result:?}"
            );
        }
    }

    #[test]
    fn an_incomplete_manifest_is_an_error_and_never_a_pass() {
        let known = signers(&[("ann", 1)]);
        let mut signed = manifest();
        assert!(matches!(signed.verify(&known), Err(ManifestError::Unsigned)));
        signed.sign("ann", &key(9).sk).unwrap();
        assert!(
            matches!(signed.verify(&known), Err(ManifestError::Wrong(_))),
            "another key under her name"
        );
        signed.sign("ann", &key(1).sk).unwrap();
        assert_eq!(signed.signatures.len(), 1, "renewed");
        assert!(matches!(
            signed.verify(&Signers::new()),
            Err(ManifestError::NoSigners)
        ));
        assert!(matches!(
            signed.verify(&signers(&[("bob", 1)])),
            Err(ManifestError::UnknownSigners(_))
        ));
        for signature in ["", "AAAA", "not base64!"] {
            let mut broken = signed.clone();
            broken.signatures[0].signature = signature.into();
            assert!(matches!(broken.verify(&known), Err(ManifestError::Wrong(_))));
        }
        for text in [
            "",
            "{}",
            r#"{"version": 1}"#,
            r#"{"version": 2, "modules": {}}"#,
            r#"{"version": 1, "modules": {"a": {"file": "a.wasm"}}}"#,
            r#"{"version": 1, "modules": {"a": {"file": "a.wasm", "digest": "sha256:00"}}}"#,
            r#"{"version": 1, "modules": {}, "extra": 1}"#,
        ] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
