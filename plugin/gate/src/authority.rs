//! HTTP host parsing. What the gate reads as the HTTP host, every server behind it must read as the host too.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::path::Ambiguous;

/// The longest host name, and its longest label, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The host of an authority (RFC 3986, section 3.2), without its port.
///
/// # Errors
/// As [`split`].
pub(crate) fn host(authority: &[u8]) -> Result<Cow<'_, str>, Ambiguous> {
    split(authority).map(|(host, _)| host)
}

/// The host of an authority, and its port if it has one. The host is a name in lower case without a trailing dot, or
/// an IPv6 address in brackets in its canonical form (RFC 5952).
///
/// # Errors
/// [`Ambiguous`] for everything else: user information, a port that is not a number up to 65535, an empty label, and
/// characters that RFC 3986 allows but host names do not contain (escapes and sub-delimiters), because servers differ
/// in where they cut such a name.
pub(crate) fn split(authority: &[u8]) -> Result<(Cow<'_, str>, Option<u16>), Ambiguous> {
    let authority = std::str::from_utf8(authority).map_err(|_| Ambiguous)?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(Ambiguous)?;
            let address: Ipv6Addr = address.parse().map_err(|_| Ambiguous)?;
            let port = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                port => Some(port.ok_or(Ambiguous)?),
            };
            (Cow::Owned(format!("[{address}]")), port)
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (self::name(name)?, Some(port)),
            None => (name(authority)?, None),
        },
    };
    Ok((host, port.map(self::port).transpose()?))
}

/// A host name in lower case, without a trailing dot.
///
/// # Errors
/// [`Ambiguous`] if it is not made of labels of letters, digits, `-` and `_`.
fn name(name: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > MAX_NAME || !name.split('.').all(valid) {
        return Err(Ambiguous);
    }
    Ok(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// `u16::from_str` alone would accept a sign.
fn port(port: &str) -> Result<u16, Ambiguous> {
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Ambiguous);
    }
    port.parse().map_err(|_| Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unambiguous_hosts_are_normalised() {
        for (authority, expected) in [
            ("admin.example.com", "admin.example.com"),
            ("Admin.Example.COM:8443", "admin.example.com"),
            ("admin.example.com.", "admin.example.com"),
            ("admin.example.com.:80", "admin.example.com"),
            ("postern_host:65535", "postern_host"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]:8080", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ] {
            assert_eq!(host(authority.as_bytes()).as_deref(), Ok(expected), "{authority}");
        }
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        for authority in [
            "",
            "admin.example.com:abc",
            "admin.example.com:80:80",
            "admin.example.com:-1",
            "admin.example.com:+80",
            "admin.example.com:80a",
            "admin.example.com:",
            "admin.example.com: 80",
            "admin.example.com:65536",
            "admin.example.com:00000000000000000080x",
            ":80",
            ".wild.example.com",
            "a..example.com",
            "admin.example.com..",
            ".",
            "a.wild.example.com:x",
            "user@admin.example.com",
            "admin.example.com;x",
            "admin.example.com%2e",
            "admin%2eexample.com",
            "admin.example.com(",
            "admin.example.com,other",
            "admin.example.com/",
            "admin.example.com\\",
            "admin.example.com?",
            "admin.example.com#",
            " admin.example.com",
            "admin.example.com ",
            "admin.example.com\t",
            "admin.example.com\0",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "[127.0.0.1]",
            "[admin.example.com]",
            "b\u{fc}cher.example",
        ] {
            assert_eq!(host(authority.as_bytes()), Err(Ambiguous), "{authority:?}");
        }
        assert_eq!(host(b"caf\xe9.example"), Err(Ambiguous));
        let label = "a".repeat(64);
        assert_eq!(host(label.as_bytes()), Err(Ambiguous));
        let long = "a.".repeat(127);
        assert_eq!(host(format!("{long}example").as_bytes()), Err(Ambiguous));
    }

    proptest! {
        #[test]
        fn accepted_authorities_are_a_host_and_a_port(authority in "[a-zA-Z0-9.:@%;_\\[\\]-]{0,24}") {
            if let Ok(host) = host(authority.as_bytes()) {
                let lower = authority.to_ascii_lowercase();
                prop_assert!(host.starts_with('[') || lower.starts_with(&*host), "{authority} read as {host}");
                prop_assert_eq!(super::host(host.as_bytes()), Ok(host.clone()));
            }
        }

        #[test]
        fn no_input_panics(authority in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = host(&authority);
        }
    }
}
