//! The listener for operators: health, metrics, what is loaded, and having it loaded again.

mod reload;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use postern_policy::Digest;
use serde::Serialize;

use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::problem::Problem;

/// What the routes tell of.
#[derive(Debug, Clone)]
struct Desk {
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
}

/// The routes. With a token, only `/healthz` and `/readyz` answer those who do not show it.
pub(crate) fn routes(loader: Arc<Loader>, metrics: Arc<Metrics>, token: Option<Digest>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/v1/policies", get(policies))
        .route("/v1/policies/reload", post(reload::reload))
        .route("/v1/policies/{name}", get(policy))
        .route_layer(from_fn_with_state(token, token::required));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
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
        .with_state(Desk { loader, metrics })
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = Problem::new(status.as_u16(), code).detail(detail).to_json();
    (status, [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], body).into_response()
}

fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", ""),
    }
}

async fn ready(State(desk): State<Desk>) -> Response {
    let readiness = desk.loader.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &readiness)
}

async fn scrape(State(desk): State<Desk>) -> Response {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media_type)], desk.metrics.text()).into_response()
}

async fn policies(State(desk): State<Desk>) -> Response {
    json(StatusCode::OK, &desk.loader.policies().status().await)
}

async fn policy(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let all = desk.loader.policies().status().await;
    match all.iter().find(|status| status.name == name) {
        Some(status) => json(StatusCode::OK, status),
        None => problem(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no policy of this name",
        ),
    }
}
