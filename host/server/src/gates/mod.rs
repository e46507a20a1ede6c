//! The listeners for gates: `Check`, signatures and audit events.

mod app_state;
mod audit;
mod auth;
mod grpc;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tracing::Instrument as _;

use crate::check::Checks;
use crate::health;
use crate::trace;
use postern_serve::problem;

use grpc::{is_grpc, status};

pub(crate) use app_state::AppState;
pub(crate) use audit::MAX_EVENTS;
pub(crate) use auth::GateAuth;

/// The maximum size of a check, in bytes: a gate sends at most 1 MiB of body, Envoy's own filter what its settings say.
const MAX_CHECK: usize = 2 << 20;

/// How long a request may take, including its body. Decisions and signatures never take as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The routes of a listener, with its way to authenticate gates.
pub(crate) fn routes<H: Health>(
    checks: Arc<Checks>,
    health: HealthServer<H>,
    state: AppState,
    auth: GateAuth,
) -> Router {
    let checks = AuthorizationServer::from_arc(checks).max_decoding_message_size(MAX_CHECK);
    let ours = Router::new()
        .route("/sign", post(sign::payload).layer(sign::limit()))
        .route("/sign/manifest", post(sign::manifest).layer(sign::limit()))
        .route("/v1/audit", post(audit::events).layer(audit::limit()))
        .route_layer(from_fn(traced))
        .route_layer(from_fn(with_timeout))
        .route_layer(from_fn_with_state(auth, auth::gates_only));
    // On a listener that cannot authenticate gates, any client can call policies; see the settings.
    let grpc = Routes::new(checks)
        .into_axum_router()
        .route_layer(from_fn(with_timeout))
        .route_layer(from_fn_with_state(auth, auth::gates_if_authenticated));
    let open = Routes::new(health).into_axum_router();
    Router::new()
        .merge(ours)
        .route("/health", get(health::alive))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(health::ready))
        .with_state(state)
        // Without their fallbacks: each would answer all unknown calls itself.
        .merge(grpc.reset_fallback())
        .merge(open.reset_fallback())
        .fallback(absent)
        .method_not_allowed_fallback(async |method: Method| {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                &format!("not with {method}"),
            )
        })
}

/// Ends requests that time out: one whose body never arrives would stay as long as its connection.
async fn with_timeout(request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) if grpc => status(Status::deadline_exceeded("the request timed out")),
        Err(_) => problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the request timed out"),
    }
}

/// Continues the caller's trace.
async fn traced(request: Request, next: Next) -> Response {
    let span = trace::span(request.uri().path(), request.headers());
    next.run(request).instrument(span).await
}

async fn absent(uri: Uri, headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return status(Status::unimplemented("there is no such service"));
    }
    problem(
        StatusCode::NOT_FOUND,
        "not_found",
        &format!("there is no {}", uri.path()),
    )
}
