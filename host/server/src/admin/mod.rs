//! The listener for operators: health, metrics, loaded policies and their reload, signers and their rotation.

mod app_state;
mod reload;
mod signers;
mod token;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use postern_serve::{TokenDigest, json, problem};

use crate::health;

pub(crate) use app_state::AppState;

/// The routes. If there is a token, all routes but those of health require it.
pub(crate) fn routes(state: AppState, token: Option<TokenDigest>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/v1/policies", get(policies))
        .route("/v1/policies/reload", post(reload::reload))
        .route("/v1/policies/{name}", get(policy))
        .route("/v1/signers", get(signers::list))
        .route("/v1/signers/rotate", post(signers::rotate))
        .route_layer(from_fn_with_state(token, token::required));
    Router::new()
        .route("/health", get(health::alive))
        .route("/healthz", get(async || "ok\n"))
        .route("/healthz/strict", get(health::strict))
        .route("/readyz", get(health::ready))
        .merge(guarded)
        .fallback(async |uri: Uri| {
            problem(
                StatusCode::NOT_FOUND,
                "not_found",
                &format!("there is no {}", uri.path()),
            )
        })
        .method_not_allowed_fallback(async |method: Method| {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                &format!("not with {method}"),
            )
        })
        .with_state(state)
}

async fn scrape(State(state): State<AppState>) -> Response {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    state.metrics.license(state.health.license());
    ([(header::CONTENT_TYPE, media_type)], state.metrics.text()).into_response()
}

async fn policies(State(state): State<AppState>) -> Response {
    json(StatusCode::OK, &state.loader.policies().status())
}

async fn policy(State(state): State<AppState>, Path(name): Path<String>) -> Response {
    let all = state.loader.policies().status();
    match all.iter().find(|status| status.name == name) {
        Some(status) => json(StatusCode::OK, status),
        None => problem(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no policy of this name",
        ),
    }
}
