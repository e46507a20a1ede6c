//! Answers in JSON, problems among them, and the token that a request shows.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use postern_policy::Digest;
use postern_serve::{Token, token};
use serde::Serialize;

use crate::problem::Problem;

pub(crate) fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = Problem::new(status.as_u16(), code).detail(detail).to_json();
    (status, [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], body).into_response()
}

pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", ""),
    }
}

/// 401, and that a token is expected.
pub(crate) fn challenge(code: &str, detail: &str) -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, code, detail);
    let bearer = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    response
}

/// The digest of the token that a request shows; none, if it shows none or more than one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Digest> {
    match token(headers) {
        Token::Bearer(token) => Some(Digest::of(token)),
        Token::None | Token::Invalid => None,
    }
}
