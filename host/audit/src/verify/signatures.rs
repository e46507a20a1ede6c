//! Verifying the signatures of checkpoints and manifests with the registry of signers.

use postern_signers::{Registry, SignatureError, Use};

use super::problem::Code;
use super::retirement::RetiredSignature;
use crate::Time;
use crate::checkpoint::{Note, Signature};

/// A signature that is not accepted: the code, and a predicate whose subject is what was signed.
pub(crate) type Rejection = (Code, String);

/// Verifies that a trusted signer signed a checkpoint. Returns the signature if its signer is retired: it still has to be
/// compared with the time of the retirement.
///
/// One valid signature is enough, as others may be of witnesses that the registry does not have. A wrong signature by a
/// signer in the registry invalidates the note, as <https://c2sp.org/signed-note> requires.
pub(crate) fn checkpoint(note: &Note, registry: &Registry) -> Result<Option<RetiredSignature>, Rejection> {
    let body = note.checkpoint.body();
    let mut valid: Option<Option<RetiredSignature>> = None;
    let mut rejection: Option<Rejection> = None;
    for signature in &note.signatures {
        match check(signature, &body, note.checkpoint.time, registry) {
            // Prefer a signer that is not retired.
            Ok(retired) => valid = Some(valid.unwrap_or_else(|| retired.clone()).and(retired)),
            Err(wrong @ (Code::CheckpointSignature, _)) => return Err(wrong),
            // Prefer the rejection of a known signer to that of an unknown one.
            Err(other) => match &rejection {
                Some((code, _)) if *code != Code::CheckpointSignerUnknown => {}
                _ => rejection = Some(other),
            },
        }
    }
    let unsigned = || (Code::CheckpointSignature, "has no signature".to_owned());
    valid.ok_or_else(|| rejection.unwrap_or_else(unsigned))
}

fn check(
    signature: &Signature,
    body: &str,
    made: Time,
    registry: &Registry,
) -> Result<Option<RetiredSignature>, Rejection> {
    let name = &signature.name;
    let signer = registry.get(name).ok_or_else(|| {
        let detail = format!("is signed by \"{name}\", which is not in the registry");
        (Code::CheckpointSignerUnknown, detail)
    })?;
    if !signature.has_key_id_of(&signer.key) {
        let detail = format!("is signed by another key under the name \"{name}\": the key id differs");
        return Err((Code::CheckpointKeyId, detail));
    }
    let verified = registry.verify_ignoring_retirement(
        name,
        Use::Checkpoint,
        body.as_bytes(),
        &signature.signature,
        made.system(),
    );
    verified
        .map(|_| RetiredSignature::of(name, made, registry))
        .map_err(|error| match error {
            SignatureError::UnknownSigner => (Code::CheckpointSignerUnknown, rejected(name, error)),
            SignatureError::WrongUse(_) => (Code::CheckpointSignerUse, rejected(name, error)),
            SignatureError::Retired | SignatureError::NotYetValid | SignatureError::Expired => {
                let detail = format!("is signed by \"{name}\" at {made}, when {error}");
                (Code::CheckpointSignerNotValid, detail)
            }
            SignatureError::Invalid => {
                let detail = format!("has an invalid signature by \"{name}\"");
                (Code::CheckpointSignature, detail)
            }
        })
}

/// Verifies that a signer signed a manifest: the 32 bytes of its hash. Returns the signature if its signer is retired.
pub(crate) fn manifest(
    registry: &Registry,
    signer: &str,
    hash: &[u8],
    signature: &[u8],
    made: Time,
) -> Result<Option<RetiredSignature>, Rejection> {
    let verified = registry.verify_ignoring_retirement(signer, Use::Manifest, hash, signature, made.system());
    verified
        .map(|_| RetiredSignature::of(signer, made, registry))
        .map_err(|error| {
            let code = match error {
                SignatureError::UnknownSigner => Code::ManifestSignerUnknown,
                SignatureError::WrongUse(_) => Code::ManifestSignerUse,
                SignatureError::Retired | SignatureError::NotYetValid | SignatureError::Expired => {
                    Code::ManifestSignerNotValid
                }
                SignatureError::Invalid => Code::ManifestSignature,
            };
            (code, rejected(signer, error))
        })
}

fn rejected(signer: &str, error: SignatureError) -> String {
    format!("names \"{signer}\" as its signer, but {error}")
}
