//! Who may see more than health.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use postern_policy::Digest;

/// Lets requests with the token pass; all, if none is required.
pub(super) async fn required(State(token): State<Option<Digest>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()));
    match token {
        None => next.run(request).await,
        // Digests are compared: how long that takes says nothing of the token.
        Some(token) if shown == Some(token) => next.run(request).await,
        Some(_) => {
            let mut response = super::problem(StatusCode::UNAUTHORIZED, "token_required", "");
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            response
                .headers_mut()
                .extend(challenge.into_response().headers().clone());
            response
        }
    }
}

/// The digest of the token that is shown.
fn bearer(value: &[u8]) -> Option<Digest> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| Digest::of(token.trim_ascii()))
}
