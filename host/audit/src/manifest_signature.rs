//! Signatures over manifests.

use crate::{Event, Hash, InvalidEvent, Time};

/// A signature over a manifest: a row of `manifest_signatures`. The row takes its id, subject and request id from the
/// event that is recorded with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSignature {
    /// SHA-256 of the manifest's canonical form.
    pub manifest_hash: Hash,
    /// An Ed25519 signature of that hash.
    pub signature: [u8; 64],
    /// The id of the signer.
    pub signer_id: String,
    /// The time of the signature.
    pub signed_at: Time,
}

impl ManifestSignature {
    /// Checks that every store can hold the signature.
    pub(crate) fn check(&self) -> Result<(), InvalidEvent> {
        let field = "signer_id";
        let most = Event::LONGEST;
        if self.signer_id.len() > most {
            return Err(InvalidEvent::TooLong { field, most });
        }
        if self.signer_id.contains('\0') {
            return Err(InvalidEvent::Nul { field });
        }
        Ok(())
    }
}
