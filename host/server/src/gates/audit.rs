//! `POST /v1/audit`: events of gates. The response is sent once all of them are durable.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use postern_audit::{AppendError, Event};
use serde::{Deserialize, Serialize};

use super::app_state::AppState;
use super::auth::{is_json, not_json};
use postern_serve::{json, problem};

/// The maximum size of a request, in bytes.
const MAX_REQUEST: usize = 4 << 20;
/// The maximum number of events in a request.
pub(crate) const MAX_EVENTS: usize = 4096;
/// The maximum size of an event's `detail`, in bytes of JSON.
const MAX_DETAIL: usize = 4096;

pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_REQUEST)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventBatch {
    events: Vec<Event>,
}

#[derive(Serialize)]
struct DurableResponse {
    durable: usize,
}

pub(super) async fn events(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some(log) = state.recorder.log() else {
        let detail = "this host keeps no audit log: its settings have no `audit`";
        return problem(StatusCode::NOT_FOUND, "audit_absent", detail);
    };
    if !is_json(&headers) {
        return not_json();
    }
    let Ok(body) = body else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "4 MiB at most");
    };
    let events = match parse(&body) {
        Ok(events) => events,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, "bad_request", &detail),
    };
    let durable = events.len();
    match log.append_all(events).await {
        Ok(_) => json(StatusCode::OK, &DurableResponse { durable }),
        Err(error @ AppendError::Invalid { .. }) => {
            problem(StatusCode::BAD_REQUEST, "bad_request", &error.to_string())
        }
        Err(error @ AppendError::Conflict { .. }) => {
            problem(StatusCode::CONFLICT, error.code(), &error.to_string())
        }
        Err(error) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            error.code(),
            "it is not certain that any of them is durable; send them again",
        ),
    }
}

/// Replaces U+0000, which the log rejects and the subject of a token can contain: one caller must not block a whole
/// batch.
fn without_nul(event: &mut Event) {
    let texts = [
        &mut event.gateway,
        &mut event.method,
        &mut event.path,
        &mut event.policy,
        &mut event.reason,
        &mut event.request_id,
        &mut event.rule,
        &mut event.subject,
        &mut event.tenant,
    ];
    for text in texts.into_iter().flatten().filter(|text| text.contains('\0')) {
        // A replacement of the same length, so that the text does not become too long.
        *text = text.replace('\0', "?");
    }
}

/// Parses the events, and checks that gates may send them.
fn parse(body: &[u8]) -> Result<Vec<Event>, String> {
    let EventBatch { mut events } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if events.len() > MAX_EVENTS {
        return Err(format!("{} events; {MAX_EVENTS} at most", events.len()));
    }
    for (i, event) in events.iter_mut().enumerate() {
        without_nul(event);
        if !event.kind.is_sent_by_gates() {
            return Err(format!(
                "events[{i}]: only a host records \"{}\"",
                event.kind.name()
            ));
        }
        event.check().map_err(|error| format!("events[{i}]: {error}"))?;
        let detail = serde_json::to_vec(&event.detail).map_or(usize::MAX, |detail| detail.len());
        if detail > MAX_DETAIL {
            return Err(format!("events[{i}]: detail has more than {MAX_DETAIL} bytes"));
        }
    }
    Ok(events)
}
