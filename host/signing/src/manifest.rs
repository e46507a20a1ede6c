//! Manifests, signed as the SHA-256 of their canonical form (RFC 8785).

use std::time::SystemTime;

use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

/// A signed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// SHA-256 of the canonical form: the 32 bytes that are signed.
    pub hash: [u8; 32],
    /// Ed25519 signature (RFC 8032) over `hash`.
    pub signature: [u8; 64],
    pub signer_id: String,
    /// Time at which the signer was valid and the signature was verified.
    pub signed_at: SystemTime,
    /// Canonical form, UTF-8.
    pub canonical: Vec<u8>,
}

/// Why a document has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// RFC 8785 writes numbers as doubles, which would change this integer.
    #[error(
        "the manifest has an integer beyond 2^53, which JSON readers round: write it as a string (RFC 8785)"
    )]
    Number,
    /// The document cannot be serialised.
    #[error("the manifest has no canonical form (RFC 8785)")]
    Form,
}

/// Returns the canonical form of a document (RFC 8785).
///
/// # Errors
/// If it has an integer beyond ±2^53, which the canonical form would change.
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
    const MAX_EXACT: u64 = 1 << 53;
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number <= MAX_EXACT,
        (None, Some(number)) => number.unsigned_abs() <= MAX_EXACT,
        // Written with a fraction or an exponent: already a double.
        (None, None) => true,
    }
}
