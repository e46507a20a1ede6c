//! gRPC requests and their status responses.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use tonic::Status;

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pub(super) fn status(status: Status) -> Response {
    status.into_http::<axum::body::Body>().into_response()
}
