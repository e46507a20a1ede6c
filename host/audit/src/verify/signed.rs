//! Whether somebody whom the registry knows signed a checkpoint or a manifest.

use postern_signers::{Refusal, Registry, Use};

use super::problem::Code;
use super::retirement::Doubt;
use crate::Time;
use crate::checkpoint::{Note, Signature};

/// Why a signature does not count: the code, and the rest of a sentence that begins with what was signed.
pub(crate) type Refused = (Code, String);

/// Whether somebody signed a checkpoint whose signature counts, and what is left to be judged of it.
///
/// One good signature is enough, for others may be of witnesses whom nobody here knows; but one that is wrong, by a
/// signer whom the registry knows, spoils them all, as <https://c2sp.org/signed-note> wants it.
pub(crate) fn checkpoint(note: &Note, registry: &Registry) -> Result<Option<Doubt>, Refused> {
    let body = note.checkpoint.body();
    let mut good: Option<Option<Doubt>> = None;
    let mut refused: Option<Refused> = None;
    for signature in &note.signatures {
        match check(signature, &body, note.checkpoint.time, registry) {
            // One without doubt is better than one with it.
            Ok(doubt) => good = Some(good.unwrap_or_else(|| doubt.clone()).and(doubt)),
            Err(wrong @ (Code::CheckpointSignature, _)) => return Err(wrong),
            // What a known name did wrong says more than that a name is unknown.
            Err(other) => match &refused {
                Some((code, _)) if *code != Code::CheckpointSignerUnknown => {}
                _ => refused = Some(other),
            },
        }
    }
    let nobody = || (Code::CheckpointSignature, "is signed by nobody".to_owned());
    good.ok_or_else(|| refused.unwrap_or_else(nobody))
}

fn check(
    signature: &Signature,
    body: &str,
    made: Time,
    registry: &Registry,
) -> Result<Option<Doubt>, Refused> {
    let name = &signature.name;
    let signer = registry.get(name).ok_or_else(|| {
        let detail = format!("is signed by \"{name}\", whom the registry does not know");
        (Code::CheckpointSignerUnknown, detail)
    })?;
    if !signature.names(&signer.key) {
        let detail =
            format!("is signed by another key under the name of \"{name}\": the key id is not its key's");
        return Err((Code::CheckpointKeyId, detail));
    }
    let verified = registry.verify_unretired(
        name,
        Use::Checkpoint,
        body.as_bytes(),
        &signature.signature,
        made.system(),
    );
    verified
        .map(|_| Doubt::about(name, made, registry))
        .map_err(|refusal| match refusal {
            Refusal::Unknown => (Code::CheckpointSignerUnknown, said(name, refusal)),
            Refusal::Use(_) => (Code::CheckpointSignerUse, said(name, refusal)),
            Refusal::Retired | Refusal::NotYetValid | Refusal::Expired => {
                let detail = format!("is signed by \"{name}\" at {made}, when {refusal}");
                (Code::CheckpointSignerNotValid, detail)
            }
            Refusal::Wrong => {
                let detail = format!("was not signed by \"{name}\" as it is: the signature is wrong");
                (Code::CheckpointSignature, detail)
            }
        })
}

/// Whether this signer signed a manifest: the 32 bytes of its hash; and what is left to be judged of it.
pub(crate) fn manifest(
    registry: &Registry,
    signer: &str,
    hash: &[u8],
    signature: &[u8],
    made: Time,
) -> Result<Option<Doubt>, Refused> {
    let verified = registry.verify_unretired(signer, Use::Manifest, hash, signature, made.system());
    verified
        .map(|_| Doubt::about(signer, made, registry))
        .map_err(|refusal| {
            let code = match refusal {
                Refusal::Unknown => Code::ManifestSignerUnknown,
                Refusal::Use(_) => Code::ManifestSignerUse,
                Refusal::Retired | Refusal::NotYetValid | Refusal::Expired => Code::ManifestSignerNotValid,
                Refusal::Wrong => Code::ManifestSignature,
            };
            (code, said(signer, refusal))
        })
}

fn said(signer: &str, refusal: Refusal) -> String {
    format!("names \"{signer}\" as its signer, but {refusal}")
}
