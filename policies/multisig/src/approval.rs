//! Approvals: the signed statement and its signatures.

use ct_codecs::{Base64, Decoder, Encoder, Hex};
use ed25519_compact::Signature;
use postern_sdk::Request;
use sha2::{Digest, Sha256};

use crate::config::ApproverKey;

/// Maximum approvals of a request. Verifying one takes about 0.1 ms of the decision's deadline.
pub(crate) const MAX_APPROVALS: usize = 32;

/// The request has more than [`MAX_APPROVALS`] approvals.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyApprovals;

/// The text that approvers sign. It binds an approval to one request, one service and one expiry.
///
/// `None` if the method or the target contains a line feed, which would make the text ambiguous.
pub(crate) fn statement(request: &Request, audience: &str, expires: u64, canonical: &[u8]) -> Option<String> {
    let target = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    if request.method.contains('\n') || target.contains('\n') {
        return None;
    }
    let digest = Hex::encode_to_string(Sha256::digest(canonical)).ok()?;
    let method = &request.method;
    Some(format!(
        "postern-approval-v1\n{audience}\n{method}\n{target}\n{expires}\n{digest}"
    ))
}

/// The approvals of a request, as key id and signature. Items that are not of the form `id:signature` are ignored, but
/// count towards the maximum.
pub(crate) fn presented(request: &Request) -> Result<Vec<(&str, &str)>, TooManyApprovals> {
    let values = request.header_values("x-approval");
    // A proxy may join repeated headers with commas (RFC 9110, section 5.3).
    let items = values.flat_map(|value| value.split(|byte| *byte == b','));
    let mut presented = Vec::new();
    for (number, item) in items.enumerate() {
        if number == MAX_APPROVALS {
            return Err(TooManyApprovals);
        }
        let pair = str::from_utf8(item)
            .ok()
            .and_then(|item| item.trim().split_once(':'));
        presented.extend(pair);
    }
    Ok(presented)
}

/// Ids of the keys that have signed the statement, without duplicates, at most `required`.
pub(crate) fn approvers<'k>(
    presented: &[(&str, &str)],
    keys: &'k [ApproverKey],
    statement: &str,
    required: usize,
) -> Vec<&'k str> {
    let mut approvers: Vec<&str> = Vec::new();
    for (id, signature) in presented {
        if approvers.len() == required {
            break;
        }
        let Some(key) = keys.iter().find(|key| key.id == *id) else {
            continue;
        };
        if !approvers.contains(id) && is_signed_by(key, statement, signature) {
            approvers.push(&key.id);
        }
    }
    approvers
}

fn is_signed_by(key: &ApproverKey, statement: &str, signature: &str) -> bool {
    let bytes = Base64::decode_to_vec(signature, None).ok();
    let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
    signature.is_some_and(|signature| key.public.0.verify(statement, &signature).is_ok())
}
