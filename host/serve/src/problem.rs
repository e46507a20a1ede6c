//! JSON responses and problem details (RFC 9457), in the form of the gate's denials.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A problem document (RFC 9457).
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
}

impl<'a> Problem<'a> {
    /// The media type of problem documents.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with this status and this machine-readable code.
    #[must_use]
    pub fn new(status: u16, code: &'a str) -> Self {
        let title = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        Self {
            // RFC 9457, section 4.2.1: the title is then the phrase of the status.
            r#type: "about:blank",
            title: title.unwrap_or("Refused"),
            status,
            code,
            detail: "",
            request_id: "",
        }
    }

    /// Adds a sentence for people, unless it is empty.
    #[must_use]
    pub fn detail(self, detail: &'a str) -> Self {
        Self { detail, ..self }
    }

    /// Adds the id of the request, unless it is empty.
    #[must_use]
    pub fn request_id(self, request_id: &'a str) -> Self {
        Self { request_id, ..self }
    }

    /// Serialises the document.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and a number always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Builds the response. A 401 requests a bearer token.
    #[must_use]
    pub fn response(&self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = [(header::CONTENT_TYPE, Self::CONTENT_TYPE)];
        let mut response = (status, media_type, self.to_json()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Builds a JSON response that ends with a line feed.
#[must_use]
pub fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", ""),
    }
}

/// Builds a problem response, with a sentence for people unless it is empty.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    Problem::new(status.as_u16(), code).detail(detail).response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_what_is_known_and_nothing_else() {
        let problem = Problem::new(404, "not_found");
        assert_eq!(
            problem.to_json(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"code":"not_found"}"#
        );
        let problem = Problem::new(401, "unauthorized")
            .detail("show a token")
            .request_id("7");
        assert!(
            problem
                .to_json()
                .ends_with(r#","detail":"show a token","request_id":"7"}"#)
        );
        let response = problem.response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
