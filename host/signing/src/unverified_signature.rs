//! The signing proxy's response to `POST /sign`.

use ct_codecs::{Base64, Decoder as _};
use serde::Deserialize;

/// Maximum size of a response body, in bytes.
pub(crate) const MAX_SIZE: usize = 64 << 10;

/// A signature as the proxy returned it, not yet verified.
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
    /// Parses a response body. Unknown fields are ignored: proxies may return more.
    ///
    /// # Errors
    /// What is wrong with the body, as the detail of [`crate::SigningError::InvalidResponse`].
    pub(crate) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let body: SignResponseBody =
            serde_json::from_slice(json).map_err(|_| "not JSON with signature_b64 and signer_id")?;
        let bytes =
            Base64::decode_to_vec(&body.signature_b64, None).map_err(|_| "signature_b64 is not Base64")?;
        let signature = bytes
            .try_into()
            .map_err(|_| "the signature is not 64 bytes long")?;
        if !postern_signers::is_signer_id(&body.signer_id) {
            return Err("signer_id is not a valid signer id");
        }
        Ok(Self {
            signature,
            signer_id: body.signer_id,
        })
    }
}
