//! Signatures by the KMS, for policies that are granted them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use ed25519_compact::{KeyPair, Seed};
use postern_signers::{Use, Uses};

use crate::bindings::signer::{self, Error};

use super::State;

/// The largest payload, in bytes.
const MAX_PAYLOAD: usize = 64 << 10;
/// What one decision may have signed.
const MAX_SIGNATURES: usize = 4;

/// Who has it signed, for the record.
#[derive(Debug, Clone, Copy)]
pub struct SigningContext<'a> {
    /// The policy's entry.
    pub policy: &'a str,
    /// The request that it decides on.
    pub request_id: &'a str,
}

/// A signature, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadSignature {
    /// The signature: of Ed25519, 64 bytes.
    pub bytes: Vec<u8>,
    /// The signer's id.
    pub signer_id: String,
}

/// An answer that is waited for: a signature, or a reason code.
pub type SigningFuture<'a> = Pin<Box<dyn Future<Output = Result<PayloadSignature, String>> + Send + 'a>>;

/// Signs for policies.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Has a payload signed, and the signature on record, before it is handed out.
    fn sign<'a>(&'a self, caller: SigningContext<'a>, payload: &'a [u8]) -> SigningFuture<'a>;
}

/// Signs with a key that everybody knows, under the id `rehearsal`: for the cases of modules, and for policies that are
/// tried outside a host. It refuses the payloads that a host refuses.
#[derive(Debug, Clone, Copy)]
pub struct TestSigner;

impl Signer for TestSigner {
    fn sign<'a>(&'a self, _: SigningContext<'a>, payload: &'a [u8]) -> SigningFuture<'a> {
        if !Uses::from(Use::Payload).permits(payload) {
            return Box::pin(std::future::ready(Err("payload_reserved".to_owned())));
        }
        let key = KeyPair::from_seed(Seed::new([1; 32])).sk;
        let signature = PayloadSignature {
            bytes: key.sign(payload, None).to_vec(),
            signer_id: "rehearsal".to_owned(),
        };
        Box::pin(std::future::ready(Ok(signature)))
    }
}

/// What a policy may still have signed for a request.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_SIGNATURES)
    }
}

impl signer::Host for State {
    async fn sign(&mut self, payload: Vec<u8>) -> wasmtime::Result<Result<signer::Signature, Error>> {
        let unavailable = |reason: &str| Ok(Err(Error::Unavailable(reason.to_owned())));
        if payload.len() > MAX_PAYLOAD {
            return unavailable("payload_too_large");
        }
        let Some(remaining) = self.signatures.0.checked_sub(1) else {
            return unavailable("too_many_signatures");
        };
        self.signatures.0 = remaining;
        let Some(key_service) = self.entry.signer.as_ref() else {
            return unavailable("signing_unavailable");
        };
        let caller = SigningContext {
            policy: &self.entry.name,
            request_id: &self.request_id,
        };
        Ok(match key_service.sign(caller, &payload).await {
            Ok(PayloadSignature { bytes, signer_id }) => Ok(signer::Signature { bytes, signer_id }),
            Err(reason) => Err(Error::Unavailable(reason)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rehearsal_signs_what_a_host_would() {
        let caller = SigningContext {
            policy: "p",
            request_id: "r",
        };
        let signed = TestSigner.sign(caller, b"payload").await.unwrap();
        assert_eq!((signed.signer_id.as_str(), signed.bytes.len()), ("rehearsal", 64));
        let note = b"postern/audit\n7\nn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n";
        assert_eq!(
            TestSigner.sign(caller, note).await.unwrap_err(),
            "payload_reserved"
        );
    }
}
