//! Rows of the tables besides `audit_events`. Nothing in them is trusted.

/// A checkpoint as a store or an export holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNote {
    /// The size under which it is stored.
    pub size: u64,
    /// The text of the note.
    pub text: String,
}

/// A row of `manifest_signatures`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRow {
    /// The id of the event that records the signature.
    pub id: Vec<u8>,
    /// The hash of the manifest: 32 bytes, which are the signed message.
    pub manifest_hash: Vec<u8>,
    /// An Ed25519 signature over the hash.
    pub signature: Vec<u8>,
    /// The id of the signer.
    pub signer_id: String,
    /// The time of the signature.
    pub signed_at: String,
}
