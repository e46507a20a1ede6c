//! What a proxy answers.

use ct_codecs::{Base64, Decoder as _};
use serde::Deserialize;

/// The largest answer that is read, in bytes.
pub(crate) const MAX_SIZE: usize = 64 << 10;

/// A signature that nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnverifiedSignature {
    pub(crate) signature: [u8; 64],
    pub(crate) signer_id: String,
}

#[derive(Deserialize)]
struct SignResponseBody {
    signature_b64: String,
    signer_id: String,
}

impl UnverifiedSignature {
    /// Reads an answer. Fields that nobody asked for are left alone: proxies may tell more.
    ///
    /// # Errors
    /// What is wrong with it, to be read after "the answer".
    pub(crate) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let body: SignResponseBody =
            serde_json::from_slice(json).map_err(|_| "is no JSON with signature_b64 and signer_id")?;
        let bytes = Base64::decode_to_vec(&body.signature_b64, None)
            .map_err(|_| "has a signature_b64 that is no Base64")?;
        let signature = bytes
            .try_into()
            .map_err(|_| "has a signature of other than 64 bytes")?;
        if !postern_signers::is_signer_id(&body.signer_id) {
            return Err("has a signer_id that cannot be one");
        }
        Ok(Self {
            signature,
            signer_id: body.signer_id,
        })
    }
}
