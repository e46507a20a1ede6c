//! What the client and the upstream receive after a decision.

use postern_gate::{Denial, Effects};
use serde::Serialize;
use serde_json::Value;

type Fields = Vec<(String, String)>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    /// The response that the client gets instead of that of the upstream.
    Response {
        status: u16,
        title: String,
        headers: Fields,
        body: Value,
        /// The body, byte for byte.
        #[serde(skip)]
        raw: String,
        details: String,
    },
    /// The changes to the request and to the response.
    Admitted {
        request_headers_set: Fields,
        request_headers_removed: Vec<String>,
        response_headers_added: Fields,
    },
}

pub(super) fn response(denial: &Denial, request_id: Option<&str>) -> Effect {
    let raw = denial.body(request_id);
    let body: Value = serde_json::from_str(&raw).unwrap_or_default();
    let content_type = ("content-type".to_owned(), Denial::CONTENT_TYPE.to_owned());
    let title = body
        .get("title")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Effect::Response {
        status: denial.status(),
        title,
        headers: std::iter::once(content_type)
            .chain(owned(&denial.headers))
            .collect(),
        body,
        raw,
        details: denial.details(),
    }
}

pub(super) fn admitted(effects: Effects) -> Effect {
    Effect::Admitted {
        request_headers_set: effects
            .identity
            .iter()
            .flat_map(|identity| identity.headers())
            .cloned()
            .collect(),
        response_headers_added: owned(&effects.response).collect(),
        request_headers_removed: effects.strip,
    }
}

fn owned<T: AsRef<str>>(headers: &[(&'static str, T)]) -> impl Iterator<Item = (String, String)> {
    let headers = headers.iter();
    headers.map(|(name, value)| ((*name).to_owned(), value.as_ref().to_owned()))
}
