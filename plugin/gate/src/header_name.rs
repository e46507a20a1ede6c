//! Header names as upstreams read them.
//!
//! Servers that pass headers in environment variables or similar names (CGI, RFC 3875, section 4.1.18) keep only
//! letters and digits: nginx and others replace `-` by `_`, lighttpd every other character, PHP dots. To these,
//! `x.postern.subject` is the same as `x-postern-subject`.

use std::borrow::Cow;

/// The name in lower case, with `-` for every character except letters and digits: names that any upstream may
/// confuse have the same result.
pub(crate) fn fold(name: &[u8]) -> Cow<'_, str> {
    let unchanged = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if name.iter().all(unchanged)
        && let Ok(name) = std::str::from_utf8(name)
    {
        return Cow::Borrowed(name);
    }
    let to_folded = |byte: &u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte.to_ascii_lowercase())
        } else {
            '-'
        }
    };
    Cow::Owned(name.iter().map(to_folded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_upstream_confuses_are_equal() {
        for name in [
            "x-postern-roles",
            "X-Postern-Roles",
            "x_postern_roles",
            "x.postern-roles",
            "x!postern#roles",
            "x+postern|roles",
            "x`postern~roles",
            "x^postern'roles",
        ] {
            assert_eq!(fold(name.as_bytes()), "x-postern-roles", "{name}");
        }
        assert_ne!(fold(b"xpostern-roles"), "x-postern-roles");
        assert_eq!(fold("x\u{e9}".as_bytes()), "x--");
    }
}
