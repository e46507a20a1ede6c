//! Reserved payloads, which are not signed because their signature would be valid for another use.

use postern_signers::{Use, Uses, possible_uses};

use crate::error::SigningError;

/// Length of the message of a manifest signature, in bytes: a SHA-256.
const DIGEST_LEN: usize = 32;

/// Rejects a payload that could be taken for something that services must not have signed. `signer_uses` are the uses of the
/// payload's signer. Checkpoints and rotation statements are rejected for every signer: other programs may not check a
/// signer's uses. A digest is accepted, unless the signer also signs manifests, whose signatures are over digests.
pub(crate) fn check(payload: &[u8], signer_uses: Uses) -> Result<(), SigningError> {
    let uses = possible_uses(payload);
    let what = if uses.contains(Use::Checkpoint) {
        "an audit log checkpoint, which only the host itself may have signed"
    } else if uses.contains(Use::Rotation) {
        "a rotation statement, which only the host itself may have signed"
    } else if !uses.contains(Use::Manifest) {
        return Ok(());
    } else if payload.len() != DIGEST_LEN {
        "a manifest of policy modules, which only its author signs"
    } else if signer_uses.contains(Use::Manifest) {
        "a manifest hash, because the payload signer also signs manifests: use a separate signer for manifests (uses in \
         signers.toml), or sign a text that contains the digest"
    } else {
        return Ok(());
    };
    Err(SigningError::Reserved(what))
}
