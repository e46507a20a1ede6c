//! `POST /sign` and `POST /sign/manifest`: signatures for services behind the gate, which hold no key.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use ct_codecs::{Base64, Decoder as _, Encoder as _};
use percent_encoding::percent_decode_str;
use postern_audit::{Hash, Time};
use postern_config::json::object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::app_state::AppState;
use super::auth::{is_json, not_json, text};
use crate::audited_signer::{AuditedSigner, SignError};
use crate::recorder::Caller;
use postern_serve::{json, problem};

/// The maximum size of a payload, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;
/// The maximum size of a request: a payload of that size in Base64, and the JSON around it.
const MAX_REQUEST: usize = MAX_PAYLOAD / 3 * 4 + 4096;

pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_REQUEST)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignRequest {
    payload_b64: String,
}

#[derive(Serialize)]
struct SignResponse {
    signature_b64: String,
    signer_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignManifestRequest {
    manifest: Value,
}

#[derive(Serialize)]
struct SignManifestResponse {
    /// The SHA-256 of the canonical form, which is what is signed.
    manifest_hash: Hash,
    signature_b64: String,
    signer_id: String,
    signed_at: Time,
}

pub(super) async fn payload(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let (signer, SignRequest { payload_b64 }) = match parse_request(&state, &headers, body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let Ok(payload) = Base64::decode_to_vec(&payload_b64, None) else {
        return bad_request("payload_b64 is no Base64 (RFC 4648, section 4, with padding)");
    };
    if payload.len() > MAX_PAYLOAD {
        return too_large();
    }
    match signer
        .sign(CallerHeaders::from_headers(&headers).caller(), &payload)
        .await
    {
        Ok(signed) => json(
            StatusCode::OK,
            &SignResponse {
                signature_b64: base64(&signed.signature),
                signer_id: signed.signer_id,
            },
        ),
        Err(error) => error_response(&error),
    }
}

pub(super) async fn manifest(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let (signer, SignManifestRequest { manifest }) = match parse_request(&state, &headers, body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    if !manifest.is_object() {
        return bad_request("manifest is not a JSON object");
    }
    match signer
        .sign_manifest(CallerHeaders::from_headers(&headers).caller(), &manifest)
        .await
    {
        Ok(signed) => json(
            StatusCode::OK,
            &SignManifestResponse {
                manifest_hash: Hash(signed.hash),
                signature_b64: base64(&signed.signature),
                signer_id: signed.signer_id,
                signed_at: Time::of(signed.signed_at),
            },
        ),
        Err(error) => error_response(&error),
    }
}

/// Parses the request, if this host signs.
fn parse_request<'a, T: DeserializeOwned>(
    state: &'a AppState,
    headers: &HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<(&'a AuditedSigner, T), Box<Response>> {
    let Some(signer) = &state.signer else {
        let detail = "this host does not sign: its settings have no `signing`";
        return Err(problem(StatusCode::NOT_FOUND, "signing_absent", detail).into());
    };
    // The interface names no content type; any other is a mistake, or a browser's form.
    if headers.contains_key(header::CONTENT_TYPE) && !is_json(headers) {
        return Err(not_json().into());
    }
    let body = body.map_err(|_| too_large())?;
    // The parser's error may repeat a part of the payload.
    let document = object(&body).map_err(|error| {
        let place = match (error.line(), error.column()) {
            (0, 0) => String::new(),
            (line, column) => format!(", at line {line} column {column}"),
        };
        bad_request(&format!(
            "the body is invalid{place}: {}, without duplicate members",
            "{\"payload_b64\": \"…\"} for /sign, {\"manifest\": {…}} for /sign/manifest"
        ))
    })?;
    Ok((signer, document))
}

/// The caller as the gate authenticated it. The gate strips client-sent headers of these names.
struct CallerHeaders {
    subject: Option<String>,
    tenant: Option<String>,
    request_id: Option<String>,
}

impl CallerHeaders {
    fn from_headers(headers: &HeaderMap) -> Self {
        // Gates escape what a header value cannot hold.
        let plain = |name| {
            let value = percent_decode_str(text(headers, name)?);
            Some(value.decode_utf8_lossy().into_owned())
        };
        Self {
            subject: plain("x-postern-subject"),
            tenant: plain("x-postern-tenant"),
            request_id: text(headers, "x-request-id").map(ToOwned::to_owned),
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            subject: self.subject.as_deref(),
            tenant: self.tenant.as_deref(),
            request_id: self.request_id.as_deref(),
            ..Caller::default()
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_to_string(bytes).unwrap_or_default()
}

fn bad_request(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn too_large() -> Response {
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        "payload_too_large",
        "the payload is larger than 1 MiB",
    )
}

/// The cause is in the log, the audit log and the metrics; the client can only retry.
fn error_response(error: &SignError) -> Response {
    let (code, detail) = match error {
        SignError::Reserved => return bad_request(&error.to_string()),
        SignError::Signing(error) if error.is_caller_error() => return bad_request(&error.to_string()),
        SignError::Signing(_) => ("signing_unavailable", "nothing was signed; try again later"),
        SignError::Unrecorded(_) => ("audit_unavailable", "no signature was released; try again later"),
    };
    problem(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}
