//! `POST /sign`.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use ct_codecs::{Base64, Decoder as _, Encoder as _, Hex};
use http_body_util::BodyExt as _;
use postern_serve::{LogFailure, json};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::app_state::AppState;
use super::auth::refuse;
use super::request_error::RequestError;
use crate::pool::PoolError;
use crate::request_log::RequestRecord;
use crate::settings::Permission;
use crate::token::{Recovery, TokenError};

/// The maximum size of a payload, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;
/// The maximum size of a body: a payload in Base64, and the JSON around it.
const MAX_BODY: usize = MAX_PAYLOAD.div_ceil(3) * 4 + 4096;
/// A larger body is read and dropped up to this size; beyond it the connection is closed.
const MAX_DRAINED: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Unknown fields are rejected: with a misspelt `signer_id`, another signer would sign.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignRequest {
    payload_b64: String,
    #[serde(default)]
    signer_id: Option<String>,
}

#[derive(Serialize)]
struct SignResponse<'a> {
    signature_b64: String,
    signer_id: &'a str,
}

/// Signs the payload with the key of the requested signer, or of the current one.
pub(super) async fn sign(
    State(state): State<AppState>,
    Extension(record): Extension<RequestRecord>,
    Extension(permission): Extension<Permission>,
    body: Body,
) -> Response {
    let answer = async {
        let response = respond(&state, &record, permission, body).await?;
        write_record(&state, &record).await?;
        Ok(response)
    };
    answer.await.unwrap_or_else(|error| refuse(&record, error))
}

/// Waits until the signature is recorded. A signature that is not recorded is withheld.
async fn write_record(state: &AppState, record: &RequestRecord) -> Result<(), RequestError> {
    record.complete("ok", 200);
    if record.write().written().await {
        return Ok(());
    }
    // If writing does not fail, the queue was full, or writing took too long.
    Err(RequestError::RecordUnavailable(
        state.log.failure().unwrap_or(LogFailure::Stalled),
    ))
}

async fn respond(
    state: &AppState,
    record: &RequestRecord,
    permission: Permission,
    body: Body,
) -> Result<Response, RequestError> {
    if permission != Permission::Sign {
        return Err(RequestError::Forbidden);
    }
    let request = read(body).await?;
    let payload = payload(&request.payload_b64)?;
    record.payload(hex(&Sha256::digest(&payload)));
    let signers = state.keyring.signers();
    let signer = match &request.signer_id {
        None => &signers.current,
        Some(id) => signers.all.get(id).ok_or(RequestError::UnknownSigner)?,
    };
    record.signer(&signer.id);
    if !signer.uses().permits(&payload) {
        return Err(RequestError::UseNotPermitted);
    }
    // A signature that could not be recorded is not even made.
    if let Some(failure) = state.log.failure() {
        return Err(RequestError::RecordUnavailable(failure));
    }
    let started = Instant::now();
    let signature = state.keyring.sign(signer, payload).await.map_err(|error| {
        // Other errors can be as many as requests, and the request log contains all there is to know about them.
        if let PoolError::Token(error) = &error {
            tracing::error!(request_id = record.id(), signer_id = signer.id, %error, "not signed");
        }
        failure(state, &error)
    })?;
    state.metrics.signed(&signer.id, started.elapsed());
    let answer = SignResponse {
        signature_b64: Base64::encode_to_string(&signature[..]).map_err(|_| RequestError::SigningFailed)?,
        signer_id: &signer.id,
    };
    Ok(json(StatusCode::OK, &answer))
}

async fn read(body: Body) -> Result<SignRequest, RequestError> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, collect(body));
    let bytes = bytes.await.map_err(|_| RequestError::BodyTimeout)??;
    postern_config::json::object(&bytes).map_err(|_| {
        RequestError::BadRequest(
            "the body must be {\"payload_b64\": \"...\"}, optionally with \"signer_id\", and nothing else",
        )
    })
}

/// Reads the body. If it is too large, the rest is read for a while and dropped: clients do not read the response while
/// they send.
async fn collect(mut body: Body) -> Result<Vec<u8>, RequestError> {
    let (mut bytes, mut size) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| RequestError::BadRequest("the body is incomplete"))?;
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size > MAX_DRAINED {
            break;
        }
        if size <= MAX_BODY {
            bytes.extend_from_slice(&data);
        }
    }
    if size > MAX_BODY {
        return Err(RequestError::TooLarge);
    }
    Ok(bytes)
}

fn payload(base64: &str) -> Result<Vec<u8>, RequestError> {
    let payload = Base64::decode_to_vec(base64, None).map_err(|_| {
        RequestError::BadRequest("payload_b64 is not Base64 (RFC 4648, section 4, with its padding)")
    })?;
    if payload.len() > MAX_PAYLOAD {
        return Err(RequestError::TooLarge);
    }
    Ok(payload)
}

fn failure(state: &AppState, error: &PoolError) -> RequestError {
    match error {
        PoolError::Unavailable => RequestError::HsmUnavailable,
        PoolError::Busy => RequestError::Overloaded,
        PoolError::Timeout => RequestError::HsmTimeout,
        PoolError::Token(TokenError::WrongSignature(_)) => {
            state.metrics.wrong_signature();
            RequestError::SigningFailed
        }
        PoolError::Token(error @ TokenError::Call(_)) if error.recovery() == Recovery::None => {
            RequestError::SigningFailed
        }
        PoolError::Token(_) => RequestError::HsmUnavailable,
    }
}

fn hex(bytes: &[u8]) -> String {
    Hex::encode_to_string(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_plain_base64_and_bounded() {
        assert_eq!(payload("aGk=").unwrap(), b"hi");
        assert_eq!(payload("").unwrap(), b"");
        let base64 = |size: usize| Base64::encode_to_string(vec![0; size]).unwrap();
        assert_eq!(payload(&base64(MAX_PAYLOAD)).unwrap().len(), MAX_PAYLOAD);
        assert!(base64(MAX_PAYLOAD).len() < MAX_BODY);
        assert_eq!(payload(&base64(MAX_PAYLOAD + 1)), Err(RequestError::TooLarge));
        for text in ["aGk", "aGk==", "aGl=", "a-_=", " aGk=", "aGk=\n", "aG\0k"] {
            assert!(
                matches!(payload(text), Err(RequestError::BadRequest(_))),
                "{text:?}"
            );
        }
    }
}
