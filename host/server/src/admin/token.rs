//! Who may see more than health.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use postern_policy::Digest;
use postern_serve::is_ambiguous;

use crate::reply::{bearer, challenge};

/// Lets requests with the token pass; all, if none is required.
pub(super) async fn required(State(token): State<Option<Digest>>, request: Request, next: Next) -> Response {
    if is_ambiguous(request.headers()) {
        return challenge("token_required", "more than one authorization header");
    }
    match token {
        // Digests are compared: how long that takes says nothing of the token.
        Some(token) if bearer(request.headers()) != Some(token) => challenge("token_required", ""),
        _ => next.run(request).await,
    }
}
