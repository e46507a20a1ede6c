//! `postern-kms-proxy` with a real token, SoftHSM2.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail this way"
)]

mod command;
mod load;
mod lost;
mod openssl;
mod refusals;
mod rotation;
mod start;
mod tls;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ct_codecs::{Base64, Decoder as _};
use ed25519_compact::Signature;
use postern_signers::parse_key;
use postern_testbed::kms_proxy::{KmsClient, KmsProxy, KmsResponse};

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_postern-kms-proxy").into()
}

/// Starts a proxy with these signers, the first of which is current, and returns it with a caller.
fn proxy(signers: &[&str]) -> (KmsProxy, KmsClient) {
    let proxy = KmsProxy::start(binary(), signers).unwrap_or_else(|error| panic!("{error}"));
    let caller = KmsClient::new(&proxy).unwrap();
    (proxy, caller)
}

/// Whether the response is this signer's signature of the payload.
fn is_signed_by(proxy: &KmsProxy, signer: &str, payload: &[u8], reply: &KmsResponse) -> bool {
    let key = parse_key(&proxy.public_key(signer).unwrap()).unwrap();
    let bytes = Base64::decode_to_vec(reply.field("signature_b64").unwrap(), None).unwrap();
    reply.field("signer_id").as_deref() == Some(signer)
        && key
            .verify(payload, &Signature::from_slice(&bytes).unwrap())
            .is_ok()
}

/// Polls until the condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not after 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The lines of the request log, as JSON.
fn audit(proxy: &KmsProxy) -> Vec<serde_json::Value> {
    let log = proxy.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &serde_json::Value| line["target"] == "postern_kms_proxy::audit")
        .collect()
}
