//! What headers a policy may touch.

use postern_config::HeaderName;

/// Headers that frame a message or belong to one connection: in another's hands they would make two requests of one.
/// A policy sets none of them, nor `host`, by which the request was routed to its rule.
const NEVER: [&str; 12] = [
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

/// Why a header cannot be set, if it cannot. Pseudo-headers are no names of headers.
pub(crate) fn unsound(name: &str, value: &[u8]) -> Option<&'static str> {
    if HeaderName::parse(name.to_owned()).is_err() {
        return Some("a header's name is none");
    }
    if NEVER.contains(&name) {
        return Some("sets a header that frames or routes the request");
    }
    let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    value
        .iter()
        .any(control)
        .then_some("a header's value holds a control character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_neither_framed_nor_routed_by_a_policy() {
        for name in NEVER {
            assert!(unsound(name, b"x").is_some(), "{name}");
        }
        for name in ["", ":path", ":status", "a b", "a\r\nb", "a:b", "é"] {
            assert!(unsound(name, b"x").is_some(), "{name:?}");
        }
        for value in [&b"a\r\nx: y"[..], b"a\n", b"\0", b"\x7f"] {
            assert!(unsound("x-a", value).is_some(), "{value:?}");
        }
        for value in [&b""[..], b"a\tb", b"\xff\xfe", "é".as_bytes()] {
            assert_eq!(unsound("x-a", value), None, "{value:?}");
        }
    }
}
