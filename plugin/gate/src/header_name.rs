//! Header names as upstreams read them.
//!
//! What passes a header on in an environment variable or a like name (CGI, RFC 3875, section 4.1.18) keeps letters and
//! digits alone: nginx and others write `_` for `-`, lighttpd for every other character, PHP for a dot. To those
//! `x.postern.subject` is `x-postern-subject`.

use std::borrow::Cow;

/// The name under which any upstream may know a header: in lower case, and `-` for what is neither letter nor digit.
pub(crate) fn fold(name: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if name.iter().all(plain)
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
    fn what_some_upstream_takes_for_one_name_is_one() {
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
