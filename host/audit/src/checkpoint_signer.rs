//! The signer of checkpoints.

use std::pin::Pin;

/// A signature over the body of a checkpoint, with the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSignature {
    /// The id of the signer: the name of the signature in the note.
    pub signer_id: String,
    /// An Ed25519 signature (RFC 8032) of the body.
    pub signature: [u8; 64],
    /// The signer's public key.
    pub public_key: [u8; 32],
}

/// Resolves to the signature, or to the reason of the failure.
pub type SignFuture<'a> = Pin<Box<dyn Future<Output = Result<CheckpointSignature, String>> + Send + 'a>>;

/// Signs checkpoints.
pub trait CheckpointSigner: Send + Sync + 'static {
    /// Signs the body of a checkpoint: these bytes, without hashing them first.
    fn sign<'a>(&'a self, body: &'a [u8]) -> SignFuture<'a>;
}
