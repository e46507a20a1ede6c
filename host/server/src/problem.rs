//! Problem details (RFC 9457), in the form in which gates refuse.

use axum::http::StatusCode;
use serde::Serialize;

/// What a response says.
#[derive(Debug, Serialize)]
pub(crate) struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl<'a> Problem<'a> {
    /// The media type.
    pub(crate) const CONTENT_TYPE: &'static str = "application/problem+json";

    pub(crate) fn new(status: u16, code: &'a str) -> Self {
        let title = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        Self {
            // RFC 9457, section 4.2.1: the title is then the status's own phrase.
            r#type: "about:blank",
            title: title.unwrap_or("Refused"),
            status,
            code,
            detail: None,
            request_id: None,
        }
    }

    /// A sentence for people; nothing, if it is empty.
    pub(crate) fn detail(mut self, detail: &'a str) -> Self {
        self.detail = (!detail.is_empty()).then_some(detail);
        self
    }

    /// The request's id; nothing, if it has none.
    pub(crate) fn request_id(mut self, id: &'a str) -> Self {
        self.request_id = (!id.is_empty()).then_some(id);
        self
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
