//! The headers that a policy may change.

use postern_config::HeaderName;

/// Headers that frame a message or belong to one connection: a policy that changes them could split one request into
/// two. `host` is among them because the request's rule was selected by it.
const FORBIDDEN: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "upgrade",
    "http2-settings",
    "expect",
];

/// If a policy may not set this header, the reason. Names of pseudo-headers are invalid.
pub(crate) fn invalid_header(name: &str, value: &[u8]) -> Option<&'static str> {
    if HeaderName::parse(name.to_owned()).is_err() {
        return Some("the name of a header is invalid");
    }
    if FORBIDDEN.contains(&name) {
        return Some("sets a header that frames or routes the request");
    }
    let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    value
        .iter()
        .any(control)
        .then_some("the value of a header contains a control character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_cannot_set_framing_or_routing_headers() {
        for name in FORBIDDEN {
            assert!(invalid_header(name, b"x").is_some(), "{name}");
        }
        for name in ["", ":path", ":status", "a b", "a\r\nb", "a:b", "é"] {
            assert!(invalid_header(name, b"x").is_some(), "{name:?}");
        }
        for value in [&b"a\r\nx: y"[..], b"a\n", b"\0", b"\x7f"] {
            assert!(invalid_header("x-a", value).is_some(), "{value:?}");
        }
        for value in [&b""[..], b"a\tb", b"\xff\xfe", "é".as_bytes()] {
            assert_eq!(invalid_header("x-a", value), None, "{value:?}");
        }
    }
}
