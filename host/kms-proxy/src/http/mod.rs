//! The HTTP API: signatures, public keys, health, metrics.

mod app_state;
mod auth;
mod request_error;
mod sign;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use postern_serve::json;
use postern_signers::{Use, format_key};
use serde::Serialize;

pub(crate) use app_state::AppState;

use self::request_error::RequestError;
use crate::request_log::RequestRecord;

/// How long a health result is cached: unauthenticated requests must not burden the token.
const HEALTH_CACHE: Duration = Duration::from_secs(1);

/// The routes. Only `/healthz` needs no authentication.
pub(crate) fn routes(state: AppState) -> Router {
    let guarded = Router::new()
        .route("/sign", post(sign::sign))
        .route("/signers", get(signers))
        .route("/metrics", get(scrape))
        .fallback(async |Extension(record): Extension<RequestRecord>| {
            auth::refuse(&record, RequestError::NotFound)
        })
        .method_not_allowed_fallback(async |Extension(record): Extension<RequestRecord>| {
            auth::refuse(&record, RequestError::MethodNotAllowed)
        })
        .layer(from_fn_with_state(state.clone(), auth::authenticate));
    Router::new()
        .route("/healthz", get(health))
        .merge(guarded)
        .with_state(state)
}

async fn health(State(state): State<AppState>) -> Response {
    if let Some(failure) = state.log.failure() {
        return RequestError::RecordUnavailable(failure).response("");
    }
    let mut last = state.health.lock().await;
    let healthy = match *last {
        Some((at, healthy)) if at.elapsed() < HEALTH_CACHE => healthy,
        _ => {
            let healthy = state.keyring.probe().await.is_ok();
            *last = Some((Instant::now(), healthy));
            healthy
        }
    };
    if healthy {
        "ok\n".into_response()
    } else {
        RequestError::HsmUnavailable.response("")
    }
}

async fn scrape(State(state): State<AppState>, Extension(record): Extension<RequestRecord>) -> Response {
    record.complete("ok", 200);
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, media_type)],
        state.metrics.text(&state.keyring, &state.log),
    )
        .into_response()
}

#[derive(Serialize)]
struct SignerList<'a> {
    signers: Vec<ListedSigner<'a>>,
}

#[derive(Serialize)]
struct ListedSigner<'a> {
    signer_id: &'a str,
    public_key: String,
    uses: Vec<&'static str>,
    current: bool,
}

async fn signers(State(state): State<AppState>, Extension(record): Extension<RequestRecord>) -> Response {
    record.complete("ok", 200);
    let signers = state.keyring.signers();
    let shown = signers.all.values().map(|signer| ListedSigner {
        signer_id: &signer.id,
        public_key: format_key(&signer.key),
        uses: signer.uses().iter().map(Use::name).collect(),
        current: signer.id == signers.current.id,
    });
    json(
        StatusCode::OK,
        &SignerList {
            signers: shown.collect(),
        },
    )
}
