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

/// The largest payload, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;
/// The largest body: a payload in Base64, and what stands around it.
const MAX_BODY: usize = MAX_PAYLOAD.div_ceil(3) * 4 + 4096;
/// Of a body that is larger, this much is read and dropped; then the connection is.
const MAX_DRAINED: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A misspelt `signer_id` must not have another sign, so what is not known is refused.
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

/// Signs the payload with the key of the signer that is asked for, else the current one's.
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

/// Waits until a line says that this was signed. A signature without one is withheld.
async fn write_record(state: &AppState, record: &RequestRecord) -> Result<(), RequestError> {
    record.complete("ok", 200);
    if record.write().written().await {
        return Ok(());
    }
    // Unless writing fails, there was no room, or too little time.
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
    // What could not be put on record is not signed in the first place.
    if let Some(failure) = state.log.failure() {
        return Err(RequestError::RecordUnavailable(failure));
    }
    let started = Instant::now();
    let signature = state.keyring.sign(signer, payload).await.map_err(|error| {
        // Of the others there can be as many as there are requests, and the audit's line says all that is known.
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
            "the body is {\"payload_b64\": \"...\"}, with \"signer_id\" if need be, and nothing else",
        )
    })
}

/// The body. One that is too large is read on for a while, and dropped: who is still sending does not listen.
async fn collect(mut body: Body) -> Result<Vec<u8>, RequestError> {
    let (mut bytes, mut size) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| RequestError::BadRequest("the body broke off"))?;
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
