//! A decision, for people and for scripts.

use std::time::Duration;

use bytesize::ByteSize;
use postern_policy::{Allowance, Content, Decision, Failure, Header, Part, Refusal};
use serde_json::{Value, json};

use crate::output::Exit;
use crate::paint::Paint;
use crate::text::printable;

/// What a module answered.
pub(super) type Answer = Result<Decision, Failure>;

/// The exit code that scripts branch on.
pub(super) fn exit(answer: &Answer) -> Exit {
    match answer {
        Ok(Decision::Allow(_)) => Exit::Allowed,
        Ok(Decision::Deny(_)) => Exit::Denied,
        Err(_) => Exit::Invalid,
    }
}

/// The decision in a line: `allow`, `deny 403 role_missing`, `error deadline`.
pub(super) fn line(answer: &Answer, paint: Paint) -> String {
    match answer {
        Ok(Decision::Allow(_)) => paint.good("allow"),
        Ok(Decision::Deny(refusal)) => {
            let code = match &refusal.content {
                Content::Problem { code, .. } => format!(" {}", printable(code)),
                Content::Body(_) => String::new(),
            };
            format!("{} {}{code}", paint.bad("deny"), refusal.status)
        }
        Err(failure) => format!("{} {}", paint.bad("error"), failure.code()),
    }
}

/// The decision with all that belongs to it.
pub(super) fn text(answer: &Answer, paint: Paint) -> String {
    let head = line(answer, paint);
    let rest = match answer {
        Ok(Decision::Allow(allowance)) => allowed(allowance),
        Ok(Decision::Deny(refusal)) => refused(refusal),
        Err(failure) => format!("  the policy {}\n", printable(&failure.to_string())),
    };
    format!("{head}\n{rest}")
}

fn allowed(allowance: &Allowance) -> String {
    let mut text = rows("header", allowance.headers.iter().map(header));
    let obligations = allowance.obligations.iter().map(|o| format!("{}: {}", o.name, o.value));
    text.push_str(&rows("obligation", obligations));
    if let Some(grant) = &allowance.cache {
        let ttl = humantime::format_duration(Duration::from_millis(grant.ttl_ms.into()));
        let parts: Vec<_> = grant.parts.iter().map(Part::name).collect();
        text.push_str(&rows("cache", [format!("{ttl} by {}", parts.join(", "))]));
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    let mut text = rows("header", refusal.headers.iter().map(header));
    match &refusal.content {
        Content::Problem { message, .. } => text.push_str(&rows("message", [message.clone()])),
        Content::Body(body) => {
            text.push_str(&rows("body", String::from_utf8_lossy(body).lines().map(str::to_owned)));
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

/// The decision as a document.
pub(super) fn document(answer: &Answer) -> Value {
    let headers = |headers: &[Header]| -> Value {
        let pairs = headers
            .iter()
            .map(|header| json!([header.name, String::from_utf8_lossy(&header.value)]));
        pairs.collect()
    };
    match answer {
        Ok(Decision::Allow(allowance)) => json!({
            "decision": "allow",
            "headers": headers(&allowance.headers),
            "obligations": allowance
                .obligations
                .iter()
                .map(|o| json!([o.name, o.value]))
                .collect::<Value>(),
            "cache": allowance.cache.as_ref().map(|grant| json!({
                "ttl_ms": grant.ttl_ms,
                "parts": grant.parts.iter().map(Part::name).collect::<Vec<_>>(),
            })),
        }),
        Ok(Decision::Deny(refusal)) => {
            let mut document = json!({
                "decision": "deny",
                "status": refusal.status,
                "headers": headers(&refusal.headers),
            });
            match &refusal.content {
                Content::Problem { code, message } => {
                    document["code"] = json!(code);
                    document["message"] = json!(message);
                }
                Content::Body(body) => document["body"] = json!(String::from_utf8_lossy(body)),
            }
            document
        }
        Err(failure) => json!({
            "decision": "error",
            "error": failure.code(),
            "message": failure.to_string(),
        }),
    }
}

/// Bytes as people read them.
pub(super) fn size(bytes: usize) -> String {
    ByteSize::b(bytes as u64).display().iec().to_string()
}

/// A time as people read it.
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
    fn all_that_belongs_to_an_allowance_is_shown() {
        let answer = Ok(Decision::Allow(Allowance {
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
        let shown = text(&answer, Paint::stderr());
        assert_eq!(
            shown,
            "allow\n  header      x-tenant: ac\\u{1b}me\n  cache       5s by path, header:x-a\n"
        );
        assert_eq!(document(&answer)["cache"]["parts"][1], "header:x-a");
    }
}
