//! Errors of requests, as problem details (RFC 9457).

use axum::http::StatusCode;
use axum::response::Response;
use postern_serve::{LogFailure, Problem};

/// Why a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// The body is invalid, for this reason.
    BadRequest(&'static str),
    /// There is no valid bearer token.
    Unauthorized,
    /// The caller may read, but not sign.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// No signer has this id.
    UnknownSigner,
    /// The uses of the signer's key do not permit this payload.
    UseNotPermitted,
    TooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The token is lost, and the proxy tries to reconnect.
    HsmUnavailable,
    /// The token did not respond in time.
    HsmTimeout,
    /// Too many requests wait for the token.
    Overloaded,
    /// The token does not sign, or its signature is wrong.
    SigningFailed,
    /// Signatures cannot be recorded.
    RecordUnavailable(LogFailure),
}

impl RequestError {
    /// The code in responses, metrics and the request log.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownSigner => "unknown_signer",
            Self::UseNotPermitted => "signer_use",
            Self::TooLarge => "too_large",
            Self::BodyTimeout => "request_timeout",
            Self::HsmUnavailable => "hsm_unavailable",
            Self::HsmTimeout => "hsm_timeout",
            Self::Overloaded => "overloaded",
            Self::SigningFailed => "signing_failed",
            Self::RecordUnavailable(_) => "record_unavailable",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownSigner | Self::UseNotPermitted => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::HsmUnavailable
            | Self::HsmTimeout
            | Self::Overloaded
            | Self::SigningFailed
            | Self::RecordUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(self) -> Option<&'static str> {
        match self {
            Self::BadRequest(how) => Some(how),
            Self::Forbidden => Some("this caller may read, but not sign"),
            Self::UnknownSigner => Some("there is no signer with this signer_id; GET /signers lists all"),
            Self::UseNotPermitted => Some("the `uses` of this signer do not permit the payload"),
            Self::TooLarge => Some("the payload is larger than 1 MiB"),
            Self::RecordUnavailable(LogFailure::WriteFailed) => Some("the proxy's log cannot be written"),
            Self::RecordUnavailable(LogFailure::Stalled) => Some("the reader of the proxy's log has stalled"),
            _ => None,
        }
    }

    pub(crate) fn response(self, request_id: &str) -> Response {
        Problem::new(self.status().as_u16(), self.code())
            .detail(self.detail().unwrap_or_default())
            .request_id(request_id)
            .response()
    }
}
