//! Lists the signers, and rotates them.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postern_audit::Time;
use postern_signers::{Use, format_key};
use serde::{Deserialize, Serialize};

use super::app_state::AppState;
use crate::audited_signer::SignError;
use crate::recorder::Caller;
use postern_serve::{json, problem};

#[derive(Serialize)]
struct ListedSigner {
    id: String,
    public_key: String,
    status: &'static str,
    /// The uses that its signatures are trusted for.
    uses: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<Time>,
}

fn absent() -> Response {
    let detail = "this host does not sign: its settings have no `signing`";
    problem(StatusCode::NOT_FOUND, "signing_absent", detail)
}

/// The registry as it is loaded now.
pub(super) async fn list(State(state): State<AppState>) -> Response {
    let Some(signer) = &state.signer else {
        return absent();
    };
    let registry = signer.signing().registry();
    let all: Vec<_> = registry
        .iter()
        .map(|(id, signer)| ListedSigner {
            id: id.to_owned(),
            public_key: format_key(&signer.key),
            status: signer.status.name(),
            uses: signer.uses().iter().map(Use::name).collect(),
            valid_from: signer.valid_from.map(Time::of),
            valid_until: signer.valid_until.map(Time::of),
            retired_at: signer.retired_at.map(Time::of),
        })
        .collect();
    json(StatusCode::OK, &all)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationRequest {
    old: String,
    new: String,
}

/// Records a signed statement that one signer takes over from another.
pub(super) async fn rotate(State(state): State<AppState>, body: Bytes) -> Response {
    let Some(signer) = &state.signer else {
        return absent();
    };
    let Ok(RotationRequest { old, new }) = postern_config::json::object(&body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "send {\"old\": \"…\", \"new\": \"…\"}",
        );
    };
    match signer.rotate(Caller::default(), &old, &new).await {
        Ok(document) => json(StatusCode::OK, &document),
        Err(error) => {
            let status = match &error {
                SignError::Signing(error) if error.is_caller_error() => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            problem(status, error.code(), &error.to_string())
        }
    }
}
