//! A change of signer, on record: one statement, signed by those whose word counts for it.

use std::time::SystemTime;

use postern_signers::{Registry, SignatureError, Signer, Use, format_key};
use serde_json::json;

use crate::error::SigningError;
use crate::manifest;
use crate::mode::Mode;
use crate::signing::{Signed, Signing};

/// A statement that one signer follows another. Whoever trusts one of its signers learns the new one's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// What was signed: the canonical form (RFC 8785) of `{"new": id, "new_key": "ed25519:…", "old": id, "time": …}`,
    /// the time in UTC, by the second (RFC 3339).
    pub statement: Vec<u8>,
    /// The time that it says.
    pub time: SystemTime,
    /// The signatures, all of signers with the use `rotation`; at least one is not the new signer's.
    pub signatures: Vec<RotationSignature>,
}

/// A signature under a statement, and in which role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationSignature {
    /// The new signer's.
    New(Signed),
    /// The old signer's.
    Old(Signed),
    /// That of a signer for rotations alone.
    Delegate(Signed),
}

impl Signing {
    /// Has the statement that `new` follows `old` signed, through the proxy, which must take `signer_id` in a request. Both
    /// must be signers of the registry: the new one is added before, the old one retired after. Each of them signs if
    /// `rotation` is among its uses; if the old one's uses do not have it, the signer of the settings for that use does.
    ///
    /// # Errors
    /// If one of them is not in the registry or does not sign, or the new one lacks a use of the old one. Nothing of the registry is changed either way.
    pub async fn rotate(&self, old: &str, new: &str) -> Result<Rotation, SigningError> {
        if self.mode() == Mode::Development {
            return Err(SigningError::Development);
        }
        if old == new {
            return Err(SigningError::SameSigner);
        }
        let registry = self.registry();
        let time = SystemTime::now();
        let (before, after) = (known(&registry, old)?, known(&registry, new)?);
        may_follow(new, after, time)?;
        has_uses_of(old, before, new, after)?;
        let delegate = self.delegate(old, new, before)?;
        let statement = manifest::canonical(&json!({
            "new": new,
            "new_key": format_key(&after.key),
            "old": old,
            "time": humantime::format_rfc3339_seconds(time).to_string(),
        }))?;
        let sign = async |id: &str| self.sign_as(Some(id), Use::Rotation, &statement, None).await;
        let mut signatures = Vec::new();
        // The new one first: if its key is not there yet, nobody else has said anything.
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

    /// Who signs in the old one's place, if that one may not.
    fn delegate(&self, old: &str, new: &str, before: &Signer) -> Result<Option<String>, SigningError> {
        if before.uses().contains(Use::Rotation) {
            return Ok(None);
        }
        let selection = self.selection();
        let named = selection
            .as_ref()
            .and_then(|selection| selection.uses.get(&Use::Rotation));
        // One that vouches for itself vouches for nobody.
        match named.filter(|id| *id != new) {
            Some(id) => Ok(Some(id.clone())),
            None => Err(SigningError::NoRotationSigner(old.to_owned())),
        }
    }
}

fn known<'a>(registry: &'a Registry, id: &str) -> Result<&'a Signer, SigningError> {
    registry.get(id).ok_or_else(|| SigningError::Rejected {
        signer_id: id.to_owned(),
        reason: SignatureError::UnknownSigner,
    })
}

/// Nobody follows who may not sign anything itself.
fn may_follow(id: &str, signer: &Signer, now: SystemTime) -> Result<(), SigningError> {
    let any = signer.uses().iter().next().unwrap_or(Use::Payload);
    signer
        .may_sign(any, now)
        .map_err(|reason| SigningError::Rejected {
            signer_id: id.to_owned(),
            reason,
        })
}

/// Who follows another signs all that the other one signed: whoever reads the statement takes the one for the other.
fn has_uses_of(old: &str, before: &Signer, new: &str, after: &Signer) -> Result<(), SigningError> {
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
