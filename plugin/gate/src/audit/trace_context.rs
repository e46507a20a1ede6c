//! The request's trace context (W3C Trace Context), which is passed on so that the host's spans belong to the same
//! trace.

use crate::request::{Request, Single};

/// The longest `tracestate`, in bytes: the length that every vendor must propagate (section 3.3.1.5).
const MAX_TRACESTATE: usize = 512;

/// The valid `traceparent` and `tracestate` of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceContext<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl<'a> TraceContext<'a> {
    /// Reads the trace context of `request`.
    #[must_use]
    pub fn of(request: &Request<'a>) -> Self {
        let Some(parent) = single_value(request, "traceparent").filter(|parent| is_parent(parent)) else {
            return Self::default();
        };
        // `tracestate` may be split into several fields; these are not joined.
        let state = single_value(request, "tracestate").filter(|state| {
            let printable = |byte: u8| (b' '..=b'~').contains(&byte);
            !state.is_empty() && state.len() <= MAX_TRACESTATE && state.bytes().all(printable)
        });
        Self {
            parent: Some(parent),
            state,
        }
    }

    /// The headers to send.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let parent = self.parent.map(|parent| ("traceparent", parent));
        let state = self.state.map(|state| ("tracestate", state));
        parent.into_iter().chain(state)
    }
}

fn single_value<'a>(request: &Request<'a>, name: &str) -> Option<&'a str> {
    match request.single(name) {
        Single::One(value) => std::str::from_utf8(value).ok(),
        Single::Absent | Single::Multiple => None,
    }
}

/// Whether `text` has the form `00-<32 hex>-<16 hex>-<2 hex>`; later versions may append more.
fn is_parent(text: &str) -> bool {
    let hex = |part: Option<&str>, length: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.is_some_and(|part| part.len() == length && part.bytes().all(digit))
    };
    let mut parts = text.split('-');
    text.len() <= 128
        && hex(parts.next(), 2)
        && hex(parts.next(), 32)
        && hex(parts.next(), 16)
        && hex(parts.next(), 2)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && (parts.next().is_none() || !text.starts_with("00"))
        && !text.starts_with("ff")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Header;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers_sent(headers: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let headers: Vec<Header<'_>> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let request = Request {
            headers: &headers,
            source: None,
            end_of_stream: true,
        };
        let trace = TraceContext::of(&request);
        trace
            .headers()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    }

    #[test]
    fn only_valid_headers_are_passed_on() {
        let both = headers_sent(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]);
        assert_eq!(
            both,
            [
                ("traceparent", PARENT.to_owned()),
                ("tracestate", "a=1,b=2".to_owned())
            ]
        );
        let later = format!("01{}-more", PARENT.get(2..).unwrap());
        assert_eq!(headers_sent(&[("traceparent", &later)]).len(), 1);
        let upper = PARENT.to_uppercase();
        let more = format!("{PARENT}-more");
        let version_ff = format!("ff{}", PARENT.get(2..).unwrap());
        let injection = format!("{PARENT}\r\nx: y");
        for invalid in ["", "SECRET", &upper, &more, &version_ff, &injection, "00-0-0-0"] {
            assert_eq!(
                headers_sent(&[("traceparent", invalid), ("tracestate", "a=1")]),
                [],
                "{invalid}"
            );
        }
        assert_eq!(
            headers_sent(&[("traceparent", PARENT), ("traceparent", PARENT)]),
            []
        );
        let long = "x".repeat(MAX_TRACESTATE + 1);
        for invalid in ["", "a\tb", &long] {
            assert_eq!(
                headers_sent(&[("traceparent", PARENT), ("tracestate", invalid)]).len(),
                1
            );
        }
    }
}
