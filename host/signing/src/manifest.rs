//! Manifests: signed as the digest of their canonical form (RFC 8785).

use std::time::SystemTime;

use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

/// A manifest that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// The SHA-256 of the canonical form: the 32 bytes that the signature is over.
    pub hash: [u8; 32],
    /// The signature over `hash`.
    pub signature: [u8; 64],
    /// Whose it is.
    pub signer_id: String,
    /// When it was verified.
    pub signed_at: SystemTime,
    /// The canonical form, UTF-8.
    pub canonical: Vec<u8>,
}

/// A document that two readers would not understand alike, or that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// RFC 8785 writes numbers as doubles, and this would become another.
    #[error(
        "the manifest has a whole number beyond 2^53, which readers of JSON round: write it as a string (RFC 8785)"
    )]
    Number,
    /// It cannot be written.
    #[error("the manifest has no canonical form (RFC 8785)")]
    Form,
}

/// The canonical form of a document (RFC 8785).
///
/// # Errors
/// If it has a whole number beyond 2^53 either way: in the canonical form it would be another.
pub fn canonical(document: &Value) -> Result<Vec<u8>, CanonicalError> {
    if !numbers_are_exact(document) {
        return Err(CanonicalError::Number);
    }
    serde_json_canonicalizer::to_vec(document).map_err(|_| CanonicalError::Form)
}

/// The SHA-256 of a canonical form.
pub(crate) fn digest(canonical: &[u8]) -> [u8; 32] {
    Sha256::digest(canonical).into()
}

fn numbers_are_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_exact(number),
        Value::Array(items) => items.iter().all(numbers_are_exact),
        Value::Object(members) => members.values().all(numbers_are_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn is_exact(number: &Number) -> bool {
    const MOST: u64 = 1 << 53;
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number <= MOST,
        (None, Some(number)) => number.unsigned_abs() <= MOST,
        // Written with a point or an exponent: a double already.
        (None, None) => true,
    }
}
