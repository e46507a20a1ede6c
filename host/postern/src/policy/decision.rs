//! Formats decisions, as text and as JSON.

use std::time::Duration;

use bytesize::ByteSize;
use postern_policy::{Allowance, Decision, DenialContent, DenialResponse, Failure, Header, Part};
use serde::Serialize;

use crate::output::Exit;
use crate::style::Style;
use crate::text::printable;

/// The result of evaluating a module.
pub(super) type DecisionResult = Result<Decision, Failure>;

/// The exit code for a result.
pub(super) fn exit(result: &DecisionResult) -> Exit {
    match result {
        Ok(Decision::Allow(_)) => Exit::Allowed,
        Ok(Decision::Deny(_)) => Exit::Denied,
        Err(_) => Exit::Invalid,
    }
}

/// The decision on one line: `allow`, `deny 403 role_missing`, `error deadline`.
pub(super) fn line(result: &DecisionResult, style: Style) -> String {
    match result {
        Ok(Decision::Allow(_)) => style.success("allow"),
        Ok(Decision::Deny(denial)) => {
            let code = match &denial.content {
                DenialContent::Problem { code, .. } => format!(" {}", printable(code)),
                DenialContent::Body(_) => String::new(),
            };
            format!("{} {}{code}", style.error("deny"), denial.status)
        }
        Err(failure) => format!("{} {}", style.error("error"), failure.code()),
    }
}

/// The decision with all its parts, one per line.
pub(super) fn text(result: &DecisionResult, style: Style) -> String {
    let head = line(result, style);
    let rest = match result {
        Ok(Decision::Allow(allowance)) => allowed(allowance),
        Ok(Decision::Deny(denial)) => denied(denial),
        Err(failure) => format!("  the policy {}\n", printable(&failure.to_string())),
    };
    format!("{head}\n{rest}")
}

fn allowed(allowance: &Allowance) -> String {
    let mut text = rows("header", allowance.headers.iter().map(header));
    let obligations = allowance
        .obligations
        .iter()
        .map(|o| format!("{}: {}", o.name, o.value));
    text.push_str(&rows("obligation", obligations));
    if let Some(grant) = &allowance.cache {
        let ttl = humantime::format_duration(Duration::from_millis(grant.ttl_ms.into()));
        let parts: Vec<_> = grant.parts.iter().map(Part::name).collect();
        text.push_str(&rows("cache", [format!("{ttl} by {}", parts.join(", "))]));
    }
    text
}

fn denied(denial: &DenialResponse) -> String {
    let mut text = rows("header", denial.headers.iter().map(header));
    match &denial.content {
        DenialContent::Problem { message, .. } => text.push_str(&rows("message", [message.clone()])),
        DenialContent::Body(body) => {
            text.push_str(&rows(
                "body",
                String::from_utf8_lossy(body).lines().map(str::to_owned),
            ));
        }
    }
    text
}

fn header(header: &Header) -> String {
    format!("{}: {}", header.name, String::from_utf8_lossy(&header.value))
}

fn rows(title: &str, values: impl IntoIterator<Item = String>) -> String {
    let rows = values
        .into_iter()
        .map(|value| format!("  {title:<11} {}\n", printable(&value)));
    rows.collect()
}

/// The JSON document of a decision.
#[derive(Debug, Default, Serialize)]
pub(super) struct Document {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Set for a denial with a problem document, and for an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Set for a denial with a body of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<(String, String)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    obligations: Option<Vec<(String, String)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Cache>,
    pub(super) took_us: Option<f64>,
    pub(super) memory_bytes: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Cache {
    ttl_ms: u32,
    parts: Vec<String>,
}

pub(super) fn document(result: &DecisionResult) -> Document {
    let headers = |headers: &[Header]| {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let pairs = headers
            .iter()
            .map(|header| (header.name.clone(), text(&header.value)));
        Some(pairs.collect())
    };
    match result {
        Ok(Decision::Allow(allowance)) => Document {
            decision: "allow",
            headers: headers(&allowance.headers),
            obligations: Some(
                allowance
                    .obligations
                    .iter()
                    .map(|o| (o.name.clone(), o.value.clone()))
                    .collect(),
            ),
            cache: allowance.cache.as_ref().map(|grant| Cache {
                ttl_ms: grant.ttl_ms,
                parts: grant.parts.iter().map(Part::name).collect(),
            }),
            ..Document::default()
        },
        Ok(Decision::Deny(denial)) => {
            let (code, message, body) = match &denial.content {
                DenialContent::Problem { code, message } => (Some(code.clone()), Some(message.clone()), None),
                DenialContent::Body(body) => (None, None, Some(String::from_utf8_lossy(body).into_owned())),
            };
            Document {
                decision: "deny",
                status: Some(denial.status),
                headers: headers(&denial.headers),
                code,
                message,
                body,
                ..Document::default()
            }
        }
        Err(failure) => Document {
            decision: "error",
            code: Some(failure.code().to_owned()),
            message: Some(failure.to_string()),
            ..Document::default()
        },
    }
}

/// Formats a number of bytes with its unit.
pub(super) fn size(bytes: usize) -> String {
    ByteSize::b(bytes as u64).display().iec().to_string()
}

/// Formats a duration with its unit.
pub(super) fn time(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{:.2} ms", micros / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_allowance_is_printed() {
        let result = Ok(Decision::Allow(Allowance {
            headers: vec![Header {
                name: "x-tenant".into(),
                value: b"ac\x1bme".to_vec(),
            }],
            obligations: Vec::new(),
            cache: Some(postern_policy::CacheGrant {
                ttl_ms: 5000,
                parts: vec![Part::Path, Part::Header("x-a".into())],
            }),
        }));
        let shown = text(&result, Style::stderr());
        assert_eq!(
            shown,
            "allow\n  header      x-tenant: ac\\u{1b}me\n  cache       5s by path, header:x-a\n"
        );
        let document = serde_json::to_value(document(&result)).unwrap();
        assert_eq!(document["cache"]["parts"][1], "header:x-a");
        assert!(document.get("status").is_none());
    }
}
