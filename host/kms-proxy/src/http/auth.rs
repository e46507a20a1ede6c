//! Authenticates callers, and records every request.

use axum::extract::{Extension, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use postern_serve::tls::Peer;
use postern_serve::{TokenDigest, is_authorization_ambiguous};
use uuid::Uuid;

use super::app_state::AppState;
use super::request_error::RequestError;
use crate::request_log::RequestRecord;
use crate::settings::{Caller, Permission};

/// The header with the request id.
const REQUEST_ID: &str = "x-request-id";

/// Lets authenticated callers pass, and records each request with its result.
pub(super) async fn authenticate(
    State(state): State<AppState>,
    peer: Option<Extension<Peer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(&request);
    let record = RequestRecord::new(
        id.clone(),
        request.method().as_str(),
        request.uri().path(),
        state.metrics.clone(),
    );
    let peer = peer.map(|Extension(peer)| peer);
    let mut response = match admit(&state.callers(), peer.as_ref(), state.local, &request) {
        Ok((name, permission)) => {
            record.caller(name);
            request.extensions_mut().insert(record.clone());
            request.extensions_mut().insert(permission);
            next.run(request).await
        }
        Err(error) => refuse(&record, error),
    };
    // The caller can rely on the record being written before the response, as long as the log works.
    if let Some(line) = record.close().filter(|_| state.log.failure().is_none()) {
        line.written().await;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Ends a request with an error.
pub(super) fn refuse(record: &RequestRecord, error: RequestError) -> Response {
    record.complete(error.code(), error.status().as_u16());
    error.response(record.id())
}

/// Identifies the caller and its permission.
fn admit(
    callers: &[Caller],
    peer: Option<&Peer>,
    local: bool,
    request: &Request,
) -> Result<(String, Permission), RequestError> {
    if is_authorization_ambiguous(request.headers()) {
        return Err(RequestError::Unauthorized);
    }
    let certificate = peer.map(|peer| format!("certificate sha256:{}", peer.sha256()));
    if callers.is_empty() {
        // A client certificate is verified before the first byte of the request. A connection from before `client_ca`
        // was set has none, and is refused.
        return match certificate {
            Some(certificate) => Ok((certificate, Permission::Sign)),
            None if local => Ok(("socket".to_owned(), Permission::Sign)),
            None => Err(RequestError::Unauthorized),
        };
    }
    let shown = TokenDigest::from_headers(request.headers()).ok_or(RequestError::Unauthorized)?;
    let caller = callers
        .iter()
        .find(|caller| caller.digest == shown)
        .ok_or(RequestError::Unauthorized)?;
    let name = match certificate {
        Some(certificate) => format!("{} ({certificate})", caller.name),
        None => caller.name.clone(),
    };
    Ok((name, caller.permission))
}

/// The id from the request if it is well-formed, otherwise a new one.
fn request_id(request: &Request) -> String {
    let plain = |text: &&str| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(plain)
        .map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned)
}
