//! Rotation: a signed statement that one signer replaces another.

use std::time::SystemTime;

use postern_signers::{Registry, SignatureError, Signer, Use, format_key};
use serde_json::json;

use crate::error::SigningError;
use crate::manifest;
use crate::mode::Mode;
use crate::signing::{Signed, Signing};

/// A statement that one signer replaces another. A verifier that trusts one of its signers learns the new signer's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The signed message: the canonical form (RFC 8785) of
    /// `{"new": id, "new_key": "ed25519:…", "old": id, "time": …}`, the time in UTC, in whole seconds (RFC 3339).
    pub statement: Vec<u8>,
    /// The statement's time.
    pub time: SystemTime,
    /// Signatures of signers with the use `rotation`; at least one is not the new signer's.
    pub signatures: Vec<RotationSignature>,
}

/// A signature of a rotation statement, with the signer's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationSignature {
    /// By the new signer.
    New(Signed),
    /// By the old signer.
    Old(Signed),
    /// By the signer that the settings name for the use `rotation`.
    Delegate(Signed),
}

impl Signing {
    /// Has the statement that `new` replaces `old` signed, through the proxy, which must accept `signer_id` in a request.
    /// Both must be in the registry: the new signer is added before, the old one is retired after. Each of them signs if
    /// `rotation` is among its uses; if the old signer lacks that use, the signer that the settings name for it signs
    /// instead. The registry is not changed.
    ///
    /// # Errors
    /// If a signer is not in the registry or does not sign, or the new signer lacks a use of the old one.
    pub async fn rotate(&self, old: &str, new: &str) -> Result<Rotation, SigningError> {
        if self.mode() == Mode::Development {
            return Err(SigningError::Development);
        }
        if old == new {
            return Err(SigningError::SameSigner);
        }
        let registry = self.registry();
        let time = SystemTime::now();
        let (before, after) = (lookup(&registry, old)?, lookup(&registry, new)?);
        check_may_sign(new, after, time)?;
        check_uses(old, before, new, after)?;
        let delegate = self.delegate(old, new, before)?;
        let statement = manifest::canonical(&json!({
            "new": new,
            "new_key": format_key(&after.key),
            "old": old,
            "time": humantime::format_rfc3339_seconds(time).to_string(),
        }))?;
        let sign = async |id: &str| self.sign_as(Some(id), Use::Rotation, &statement, None).await;
        let mut signatures = Vec::new();
        // The new signer goes first: if the KMS does not have its key yet, no other signature has been made.
        if after.uses().contains(Use::Rotation) {
            signatures.push(RotationSignature::New(sign(new).await?));
        }
        signatures.push(match delegate {
            None => RotationSignature::Old(sign(old).await?),
            Some(id) => RotationSignature::Delegate(sign(&id).await?),
        });
        Ok(Rotation {
            statement,
            time,
            signatures,
        })
    }

    /// The signer that signs instead of the old one; `None` if the old one may sign.
    fn delegate(&self, old: &str, new: &str, before: &Signer) -> Result<Option<String>, SigningError> {
        if before.uses().contains(Use::Rotation) {
            return Ok(None);
        }
        let selection = self.selection();
        let named = selection
            .as_ref()
            .and_then(|selection| selection.uses.get(&Use::Rotation));
        // A statement that only the new signer signs proves nothing.
        match named.filter(|id| *id != new) {
            Some(id) => Ok(Some(id.clone())),
            None => Err(SigningError::NoRotationSigner(old.to_owned())),
        }
    }
}

fn lookup<'a>(registry: &'a Registry, id: &str) -> Result<&'a Signer, SigningError> {
    registry.get(id).ok_or_else(|| SigningError::Rejected {
        signer_id: id.to_owned(),
        reason: SignatureError::UnknownSigner,
    })
}

/// Rejects a new signer that may not sign anything now.
fn check_may_sign(id: &str, signer: &Signer, now: SystemTime) -> Result<(), SigningError> {
    let any = signer.uses().iter().next().unwrap_or(Use::Payload);
    signer
        .may_sign(any, now)
        .map_err(|reason| SigningError::Rejected {
            signer_id: id.to_owned(),
            reason,
        })
}

/// Rejects a new signer that lacks uses of the old one: verifiers of the statement accept it in the old one's place.
fn check_uses(old: &str, before: &Signer, new: &str, after: &Signer) -> Result<(), SigningError> {
    let (needed, found) = (before.uses(), after.uses());
    if found.contains_all(needed) {
        return Ok(());
    }
    Err(SigningError::MissingUses {
        old: old.to_owned(),
        new: new.to_owned(),
        needed,
        found,
    })
}
