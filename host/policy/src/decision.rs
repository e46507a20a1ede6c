//! A policy's decision, validated.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::Failure;
use crate::bindings::{self, Allowance, Header, Part};

/// Maximum number of headers, and of obligations, in one decision.
const MAX_HEADERS: usize = 64;
/// Maximum size of the headers, and of the obligations, in bytes.
const MAX_SIZE: usize = 64 << 10;

/// A validated decision.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The request is allowed, with what the policy attached to it.
    Allow(Allowance),
    /// The request is denied with this response.
    Deny(DenialResponse),
}

/// The response a client receives for a denied request.
#[derive(Debug, Clone)]
pub struct DenialResponse {
    /// HTTP status, 300 to 599.
    pub status: u16,
    /// Response headers, names in lower case.
    pub headers: Vec<Header>,
    /// The response body.
    pub content: DenialContent,
}

/// The body of a denial response.
#[derive(Debug, Clone)]
pub enum DenialContent {
    /// Fields of a problem document (RFC 9457), which the host renders.
    Problem {
        /// Machine-readable code: lower-case letters, digits and underscores, at most 64.
        code: String,
        /// Human-readable sentence, at most 1024 bytes. Clients see it.
        message: String,
    },
    /// A complete body, from a `wasi:http` policy.
    Body(Bytes),
}

impl Decision {
    /// Validates the result of a `postern:policy` module.
    ///
    /// # Errors
    /// [`Failure::Reply`] if the decision cannot be applied: invalid headers, a status out of range, a malformed code,
    /// or more data than the limits allow. The module's own [`Failure`] if it could not decide.
    pub(crate) fn from_module(result: Result<bindings::Decision, bindings::Error>) -> Result<Self, Failure> {
        match result {
            Ok(bindings::Decision::Allow(allowance)) => {
                check_headers(&allowance.headers)?;
                let size: usize = allowance
                    .obligations
                    .iter()
                    .map(|o| o.name.len() + o.value.len())
                    .sum();
                if allowance.obligations.len() > MAX_HEADERS || size > MAX_SIZE {
                    return Err(Failure::Reply("too many obligations".into()));
                }
                if allowance.obligations.iter().any(|o| !is_identifier(&o.name)) {
                    return Err(Failure::Reply(
                        "an obligation's name must be lower-case letters, digits and `_`".into(),
                    ));
                }
                if let Some(grant) = &allowance.cache {
                    check_parts(&grant.parts)?;
                }
                Ok(Self::Allow(allowance))
            }
            Ok(bindings::Decision::Deny(denial)) => {
                check_status(denial.status)?;
                check_headers(&denial.headers)?;
                if !is_identifier(&denial.code) {
                    return Err(Failure::Reply(
                        "the code of a denial must be lower-case letters, digits and `_`".into(),
                    ));
                }
                if denial.message.len() > 1024 {
                    return Err(Failure::Reply(
                        "the message of a denial is longer than 1024 bytes".into(),
                    ));
                }
                Ok(Self::Deny(DenialResponse {
                    status: denial.status,
                    headers: denial.headers,
                    content: DenialContent::Problem {
                        code: denial.code,
                        message: denial.message,
                    },
                }))
            }
            Err(bindings::Error::Misconfigured(text)) => Err(Failure::Misconfigured(truncate(text))),
            Err(bindings::Error::Unavailable(text)) => Err(Failure::Unavailable(truncate(text))),
            Err(bindings::Error::Failed(text)) => Err(Failure::Failed(truncate(text))),
        }
    }
}

pub(crate) fn check_status(status: u16) -> Result<(), Failure> {
    if (300..=599).contains(&status) {
        Ok(())
    } else {
        Err(Failure::Reply(format!(
            "denial status {status} is not in 300 to 599"
        )))
    }
}

/// Checks that a policy may set these headers on a request or response. Policies cannot set message framing, connection
/// or host headers, nor the headers in which the gate passes the caller's identity to the upstream.
pub(crate) fn check_headers(headers: &[Header]) -> Result<(), Failure> {
    let size: usize = headers.iter().map(|h| h.name.len() + h.value.len()).sum();
    if headers.len() > MAX_HEADERS || size > MAX_SIZE {
        return Err(Failure::Reply(
            "more than 64 headers, or more than 64 KiB of them".into(),
        ));
    }
    for Header { name, value } in headers {
        let is_valid = !name.bytes().any(|b| b.is_ascii_uppercase())
            && HeaderName::from_bytes(name.as_bytes()).is_ok()
            && HeaderValue::from_bytes(value).is_ok();
        if !is_valid {
            return Err(Failure::Reply(format!(
                "header `{}` is invalid",
                name.escape_debug()
            )));
        }
        if is_reserved(name) {
            return Err(Failure::Reply(format!(
                "header `{name}` is reserved: a policy cannot set it"
            )));
        }
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    const FRAMING: [&str; 10] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    FRAMING.contains(&name) || name.starts_with("x-postern-") || name.starts_with("x-envoy-")
}

fn check_parts(parts: &[Part]) -> Result<(), Failure> {
    if parts.len() > 32 {
        return Err(Failure::Reply("a cache grant with more than 32 parts".into()));
    }
    for part in parts {
        if let Part::Header(name) = part
            && (name.bytes().any(|b| b.is_ascii_uppercase())
                || HeaderName::from_bytes(name.as_bytes()).is_err())
        {
            return Err(Failure::Reply("a cache grant names an invalid header".into()));
        }
    }
    Ok(())
}

/// Whether text is 1 to 64 lower-case letters, digits and underscores.
fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Truncates a module's error text to about 512 bytes, for logs.
fn truncate(mut text: String) -> String {
    let end = text.char_indices().map(|(at, _)| at).find(|&at| at >= 512);
    if let Some(end) = end {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::postern::policy::types::Denial;
    use crate::bindings::{CacheGrant, Obligation};

    fn header(name: &str, value: &[u8]) -> Header {
        Header {
            name: name.into(),
            value: value.into(),
        }
    }

    fn deny(status: u16, code: &str, headers: Vec<Header>) -> Result<Decision, Failure> {
        Decision::from_module(Ok(bindings::Decision::Deny(Denial {
            status,
            code: code.into(),
            message: "no".into(),
            headers,
        })))
    }

    fn allow(headers: Vec<Header>, obligation: &str, part: &str) -> Result<Decision, Failure> {
        Decision::from_module(Ok(bindings::Decision::Allow(Allowance {
            headers,
            obligations: vec![Obligation {
                name: obligation.into(),
                value: "v".into(),
            }],
            cache: Some(CacheGrant {
                ttl_ms: 1,
                parts: vec![Part::Path, Part::Header(part.into())],
            }),
        })))
    }

    #[test]
    fn valid_decisions_are_accepted() {
        deny(403, "role_missing", vec![header("retry-after", b"1")]).unwrap();
        deny(302, "log_in", vec![header("location", b"/login")]).unwrap();
        allow(vec![header("x-tenant", b"caf\xe9")], "audit_level", "x-a").unwrap();
    }

    #[test]
    fn decisions_that_cannot_be_applied_are_failures() {
        for name in [
            "",
            "a b",
            "X-Upper",
            ":path",
            "host",
            "content-length",
            "x-postern-subject",
            "x-envoy-a",
            "a\nb",
        ] {
            let headers = vec![header(name, b"v")];
            assert!(allow(headers.clone(), "o", "x").is_err(), "allow {name:?}");
            assert!(deny(403, "c", headers).is_err(), "deny {name:?}");
        }
        for value in [&b"a\r\nb: c"[..], b"a\0", b"\n"] {
            assert!(deny(403, "c", vec![header("x-a", value)]).is_err());
        }
        for status in [0, 100, 200, 299, 600, 65535] {
            assert!(deny(status, "c", vec![]).is_err(), "{status}");
        }
        for code in ["", "Upper", "two words", "a-b", &"x".repeat(65), "\u{fc}"] {
            assert!(deny(403, code, vec![]).is_err(), "{code}");
            assert!(allow(vec![], code, "x").is_err(), "{code}");
        }
        assert!(allow(vec![], "o", "X-Upper").is_err());
        assert!(allow(vec![header("x-a", b""); 65], "o", "x").is_err());
        assert!(allow(vec![header("x-a", &[b'a'; MAX_SIZE])], "o", "x").is_err());
    }

    #[test]
    fn a_modules_error_text_is_truncated() {
        let long = "é".repeat(10_000);
        let Err(Failure::Failed(text)) = Decision::from_module(Err(bindings::Error::Failed(long))) else {
            panic!("a failure")
        };
        assert!(text.len() < 600 && text.ends_with('…'));
    }
}
