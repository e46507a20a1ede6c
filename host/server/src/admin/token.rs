//! Authenticates operators.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use postern_serve::{TokenDigest, is_authorization_ambiguous, problem};

/// Lets requests with the token pass; all requests, if none is required.
pub(super) async fn required(
    State(token): State<Option<TokenDigest>>,
    request: Request,
    next: Next,
) -> Response {
    if is_authorization_ambiguous(request.headers()) {
        return required_token("more than one authorization header");
    }
    match token {
        Some(token) if TokenDigest::from_headers(request.headers()) != Some(token) => required_token(""),
        _ => next.run(request).await,
    }
}

fn required_token(detail: &str) -> Response {
    problem(StatusCode::UNAUTHORIZED, "token_required", detail)
}
