//! The signed manifest: the modules of a host, the capabilities that each may be granted, and their test cases.
//!
//! A manifest is a JSON document. Its signatures are Ed25519 over [`CONTEXT`] and the canonical form (RFC 8785) of
//! everything but the signatures. It can be reformatted without a new signature, but not changed. The canonical form is
//! computed from the parsed values, so what is verified is what is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::{PublicKey, SecretKey, Signature as Ed25519};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Digest;
use crate::grants::Capability;

/// Prefix of the signed message, so that signatures made for other purposes are not valid for manifests.
const CONTEXT: &[u8] = b"postern policy manifest v1\n";
/// Maximum serial: the canonical form represents integers exactly up to 53 bits.
const MAX_SERIAL: u64 = (1 << 53) - 1;

/// A signed list of modules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format; must be 1.
    pub version: u32,
    /// Serial number. A host rejects a manifest with a lower serial than one it has accepted. 0, which is not written, in
    /// manifests older than this field.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub serial: u64,
    /// Expiry time in RFC 3339. Nothing is loaded from an expired manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// The modules, by name.
    #[serde(deserialize_with = "unique_modules")]
    pub modules: BTreeMap<String, ListedModule>,
    /// Signatures over everything else.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

fn is_zero(serial: &u64) -> bool {
    *serial == 0
}

/// Rejects duplicate module names: parsers differ in which of the two they keep.
fn unique_modules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ListedModule>, D::Error> {
    struct Modules;
    impl<'de> Visitor<'de> for Modules {
        type Value = BTreeMap<String, ListedModule>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("modules by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut modules = BTreeMap::new();
            while let Some((name, listed)) = map.next_entry::<String, ListedModule>()? {
                if modules.contains_key(&name) {
                    let name = name.escape_debug();
                    return Err(A::Error::custom(format!("the module `{name}` is listed twice")));
                }
                modules.insert(name, listed);
            }
            Ok(modules)
        }
    }
    deserializer.deserialize_map(Modules)
}

/// A module in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedModule {
    /// Path of the component, relative to the manifest's directory.
    pub file: String,
    /// Digest of the component.
    pub digest: Digest,
    /// The capabilities that settings may grant it; none by default.
    #[serde(default)]
    pub grants: BTreeSet<Capability>,
    /// Its cases file. The module must pass the cases before it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<ListedFile>,
}

/// A file in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// Path relative to the manifest's directory.
    pub file: String,
    /// Digest of the file.
    pub digest: Digest,
}

/// A signature over a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Name of the signer; selects the public key in the host's settings.
    pub signer: String,
    /// The Ed25519 signature in Base64.
    pub signature: String,
}

/// Public keys of the trusted signers, by name.
pub type Signers = BTreeMap<String, PublicKey>;

/// A manifest cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It does not match the schema of a manifest.
    #[error("not a manifest: {0}")]
    Parse(#[from] serde_json::Error),
    /// Its version is not supported.
    #[error("version {0} is not supported; this program supports version 1")]
    Version(u32),
    /// Its serial has more than 53 bits.
    #[error("serial {0} is too large; the maximum is {MAX_SERIAL}")]
    Serial(u64),
    /// Its expiry is not an RFC 3339 time.
    #[error("not_after: `{0}` is not a valid time; the format is 2027-01-31T00:00:00Z")]
    InvalidExpiry(String),
    /// It has expired.
    #[error("it expired at {0}: sign it again with a later `--not-after`")]
    Expired(String),
    /// The settings have no trusted signers.
    #[error("the settings have no trusted signers: list their public keys under `signers`")]
    NoSigners,
    /// It has no signatures.
    #[error("it is not signed: sign it with `postern policy sign`")]
    Unsigned,
    /// None of its signers is trusted.
    #[error(
        "it is not signed by a trusted signer: add one of its signers to the settings, or have a trusted signer sign it; it is signed by {0}"
    )]
    UnknownSigners(String),
    /// The signature of a trusted signer is invalid.
    #[error(
        "the signature of `{0}` is invalid: the manifest was changed after it was signed, or signed with another key"
    )]
    InvalidSignature(String),
}

impl Manifest {
    /// Parses a manifest. Do not use it before [`Manifest::verify`].
    ///
    /// # Errors
    /// If the text is not a manifest, or a field is invalid.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(text)?;
        if manifest.version != 1 {
            return Err(ManifestError::Version(manifest.version));
        }
        if manifest.serial > MAX_SERIAL {
            return Err(ManifestError::Serial(manifest.serial));
        }
        manifest.expiry()?;
        Ok(manifest)
    }

    /// Parses the expiry; `None` if the manifest never expires.
    fn expiry(&self) -> Result<Option<SystemTime>, ManifestError> {
        let end = self.not_after.as_deref().map(|text| {
            humantime::parse_rfc3339(text)
                .map_err(|_| ManifestError::InvalidExpiry(text.escape_debug().to_string()))
        });
        end.transpose()
    }

    /// Checks that the manifest has not expired.
    ///
    /// # Errors
    /// [`ManifestError::Expired`] if it has.
    pub fn check_expiry(&self, now: SystemTime) -> Result<(), ManifestError> {
        match self.expiry()? {
            Some(end) if end <= now => {
                Err(ManifestError::Expired(self.not_after.clone().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Digest of the signed message. Manifests with equal digests have equal contents.
    ///
    /// # Errors
    /// If the manifest has no canonical form.
    pub fn digest(&self) -> Result<Digest, ManifestError> {
        Ok(Digest::of(&self.message()?))
    }

    /// Verifies the signatures and returns the trusted signers, at least one. An invalid signature of a trusted signer is
    /// an error even next to a valid one: it means that the manifest was changed. Signatures of unknown signers are
    /// ignored.
    ///
    /// # Errors
    /// If there is no valid signature of a trusted signer, or an invalid one.
    pub fn verify(&self, signers: &Signers) -> Result<Vec<String>, ManifestError> {
        if signers.is_empty() {
            return Err(ManifestError::NoSigners);
        }
        if self.signatures.is_empty() {
            return Err(ManifestError::Unsigned);
        }
        let message = self.message()?;
        let mut verified = Vec::new();
        for Signature { signer, signature } in &self.signatures {
            let Some(key) = signers.get(signer) else { continue };
            let is_valid = Base64::decode_to_vec(signature, None)
                .ok()
                .and_then(|bytes| Ed25519::from_slice(&bytes).ok())
                .is_some_and(|signature| key.verify(&message, &signature).is_ok());
            if !is_valid {
                return Err(ManifestError::InvalidSignature(signer.clone()));
            }
            verified.push(signer.clone());
        }
        if verified.is_empty() {
            let named: Vec<_> = self
                .signatures
                .iter()
                .map(|s| format!("`{}`", s.signer.escape_debug()))
                .collect();
            return Err(ManifestError::UnknownSigners(named.join(", ")));
        }
        Ok(verified)
    }

    /// Adds a signature; replaces an existing one of the same signer.
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
    fn a_signature_survives_reformatting_but_no_change() {
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
                matches!(result, Err(ManifestError::InvalidSignature(_))),
                "{from}: {result:?}"
            );
        }
    }

    #[test]
    fn an_incomplete_manifest_is_an_error() {
        let known = signers(&[("ann", 1)]);
        let mut signed = manifest();
        assert!(matches!(signed.verify(&known), Err(ManifestError::Unsigned)));
        signed.sign("ann", &key(9).sk).unwrap();
        assert!(
            matches!(signed.verify(&known), Err(ManifestError::InvalidSignature(_))),
            "another key under her name"
        );
        signed.sign("ann", &key(1).sk).unwrap();
        assert_eq!(signed.signatures.len(), 1, "replaced");
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
            assert!(matches!(
                broken.verify(&known),
                Err(ManifestError::InvalidSignature(_))
            ));
        }
        for text in [
            "",
            "{}",
            r#"{"version": 1}"#,
            r#"{"version": 2, "modules": {}}"#,
            r#"{"version": 1, "modules": {"a": {"file": "a.wasm"}}}"#,
            r#"{"version": 1, "modules": {"a": {"file": "a.wasm", "digest": "sha256:00"}}}"#,
            r#"{"version": 1, "modules": {}, "extra": 1}"#,
            r#"{"version": 1, "modules": {}, "modules": {}}"#,
            r#"{"version": 1, "serial": 9007199254740992, "modules": {}}"#,
            r#"{"version": 1, "serial": -1, "modules": {}}"#,
            r#"{"version": 1, "not_after": "next year", "modules": {}}"#,
        ] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_module_that_is_listed_twice_is_an_error() {
        let listed = format!(r#"{{"file": "a.wasm", "digest": "{}"}}"#, Digest::of(b"a"));
        let text = format!(r#"{{"version": 1, "modules": {{"a": {listed}, "b": {listed}}}}}"#);
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().modules.len(), 2);
        for name in ["a", "\\u0061"] {
            let text = format!(r#"{{"version": 1, "modules": {{"a": {listed}, "{name}": {listed}}}}}"#);
            let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("`a` is listed twice"), "{error}");
        }
    }

    #[test]
    fn serial_and_expiry_are_signed_and_the_expiry_is_enforced() {
        let known = signers(&[("ann", 1)]);
        let mut signed = manifest();
        (signed.serial, signed.not_after) = (7, Some("2027-01-31T00:00:00Z".into()));
        signed.sign("ann", &key(1).sk).unwrap();
        signed.verify(&known).unwrap();
        let end = humantime::parse_rfc3339("2027-01-31T00:00:00Z").unwrap();
        let second = std::time::Duration::from_secs(1);
        signed.check_expiry(end - second).unwrap();
        assert!(matches!(signed.check_expiry(end), Err(ManifestError::Expired(_))));
        for changed in [
            Manifest {
                serial: 8,
                ..signed.clone()
            },
            Manifest {
                serial: 0,
                ..signed.clone()
            },
            Manifest {
                not_after: None,
                ..signed.clone()
            },
        ] {
            assert!(
                matches!(changed.verify(&known), Err(ManifestError::InvalidSignature(_))),
                "{changed:?}"
            );
            assert_ne!(changed.digest().unwrap(), signed.digest().unwrap());
        }
    }
}
