//! Authenticates gates.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use postern_serve::{TokenDigest, is_authorization_ambiguous, problem};
use tonic::Status;

use super::grpc::{is_grpc, status};

/// How a listener authenticates gates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GateAuth {
    /// Every connection is from a gate: a Unix socket, or client certificates that only gates have.
    Connected,
    /// By a bearer token.
    Token(TokenDigest),
    /// Not at all.
    Unauthenticated,
}

impl GateAuth {
    fn is_gate(self, headers: &HeaderMap) -> bool {
        if is_authorization_ambiguous(headers) {
            return false;
        }
        match self {
            Self::Connected => true,
            Self::Token(token) => TokenDigest::from_headers(headers) == Some(token),
            Self::Unauthenticated => false,
        }
    }
}

/// Lets only gates pass.
pub(super) async fn gates_only(State(auth): State<GateAuth>, request: Request, next: Next) -> Response {
    if auth.is_gate(request.headers()) {
        return next.run(request).await;
    }
    not_a_gate()
}

/// Lets only gates pass; if the listener cannot authenticate gates, lets everyone pass.
pub(super) async fn gates_if_authenticated(
    State(auth): State<GateAuth>,
    request: Request,
    next: Next,
) -> Response {
    let anyone = matches!(auth, GateAuth::Unauthenticated) && !is_authorization_ambiguous(request.headers());
    if anyone || auth.is_gate(request.headers()) {
        return next.run(request).await;
    }
    if is_grpc(request.headers()) {
        return status(Status::unauthenticated(
            "only gates may call this; the token is missing or wrong",
        ));
    }
    not_a_gate()
}

fn not_a_gate() -> Response {
    problem(
        StatusCode::UNAUTHORIZED,
        "gates_only",
        "only gates may call this: see `gate` in the host's settings",
    )
}

/// The value of a header, if it is text and not empty.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

/// Whether the content type of the body is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

/// Rejects a body of another content type.
pub(super) fn not_json() -> Response {
    problem(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        "send application/json",
    )
}
