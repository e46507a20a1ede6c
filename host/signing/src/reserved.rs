//! Payloads that are not signed, because their signature could count for something else.

use postern_signers::{Use, Uses, possible_uses};

use crate::error::SigningError;

/// A manifest's signature is over this many bytes.
const DIGEST: usize = 32;

/// Refuses a payload that could be taken for something that services have no business to have signed. Checkpoints and
/// statements are refused whoever signs: other programs may know less of signers' uses than this one. A digest is a
/// payload like any other, unless its signer's signatures over digests count as those of manifests.
pub(crate) fn check(payload: &[u8], signer: Uses) -> Result<(), SigningError> {
    let taken = possible_uses(payload);
    let what = if taken.contains(Use::Checkpoint) {
        "a checkpoint of an audit log, which only the host itself has signed"
    } else if taken.contains(Use::Rotation) {
        "a statement that one signer follows another, which only the host itself has signed"
    } else if !taken.contains(Use::Manifest) {
        return Ok(());
    } else if payload.len() != DIGEST {
        "a list of policy modules, which only its author signs"
    } else if signer.contains(Use::Manifest) {
        "the hash of a manifest, because its signer signs those too: give manifests a signer of their own (uses in \
         signers.toml), or sign a text that holds the digest"
    } else {
        return Ok(());
    };
    Err(SigningError::Reserved(what))
}
