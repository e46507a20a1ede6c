//! Refusals, as problem details (RFC 9457).

use axum::http::StatusCode;
use axum::response::Response;
use postern_serve::{LogFailure, Problem};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// The body is not what it should be; how, is told.
    BadRequest(&'static str),
    /// No bearer token, or none that is known.
    Unauthorized,
    /// The caller may read, not sign.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// Nobody of this id signs here.
    UnknownSigner,
    /// The signer's key does not sign what this could be taken for.
    UseNotPermitted,
    TooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// The token was lost and is being looked for.
    HsmUnavailable,
    /// The token did not answer in time.
    HsmTimeout,
    /// Too many requests wait for the token.
    Overloaded,
    /// The token does not sign, or not correctly.
    SigningFailed,
    /// What is signed cannot be put on record.
    RecordUnavailable(LogFailure),
}

impl RequestError {
    /// Its name for machines, in answers, metrics and the audit.
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
            Self::Forbidden => Some("this caller may read, not sign"),
            Self::UnknownSigner => Some("nobody of this signer_id signs here; GET /signers tells who does"),
            Self::UseNotPermitted => Some("the `uses` of this signer do not permit the payload"),
            Self::TooLarge => Some("a payload has 1 MiB at most"),
            Self::RecordUnavailable(LogFailure::WriteFailed) => Some("the proxy's log cannot be written"),
            Self::RecordUnavailable(LogFailure::Stalled) => Some("nobody reads the proxy's log"),
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
