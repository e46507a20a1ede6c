//! The `signer` capability: signatures by the host's KMS key.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use ed25519_compact::{KeyPair, Seed};
use postern_signers::{Use, Uses};

use crate::bindings::signer::{self, Error};

use super::State;

/// Maximum size of a payload, in bytes.
const MAX_PAYLOAD: usize = 64 << 10;
/// Maximum signatures per decision.
const MAX_SIGNATURES: usize = 4;

/// The policy and request that a signature is for, for the audit log.
#[derive(Debug, Clone, Copy)]
pub struct SigningContext<'a> {
    /// Name of the policy's entry.
    pub policy: &'a str,
    /// Id of the request being evaluated.
    pub request_id: &'a str,
}

/// A signature over a policy's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadSignature {
    /// The signature bytes; 64 for Ed25519.
    pub bytes: Vec<u8>,
    /// Id of the signer that made it.
    pub signer_id: String,
}

/// A pending signature; fails with a reason code.
pub type SigningFuture<'a> = Pin<Box<dyn Future<Output = Result<PayloadSignature, String>> + Send + 'a>>;

/// The backend of the `signer` capability.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Signs a payload. The signature must be in the audit log before it is returned.
    fn sign<'a>(&'a self, caller: SigningContext<'a>, payload: &'a [u8]) -> SigningFuture<'a>;
}

/// Signs with a publicly known key under the id `rehearsal`, for test cases and for running policies outside a host. It
/// rejects the same payloads as a host.
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

/// Signatures that a policy may still request in a decision.
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
    async fn the_test_signer_rejects_what_a_host_rejects() {
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
