//! Path normalisation: paths are normalised as RFC 3986 (section 6.2.2) allows, and refused where two parsers could
//! differ.

use std::borrow::Cow;

/// Two parsers could read the text differently. It is refused, not repaired.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// Normalises the path of a request target: removes the query, decodes escapes of printable ASCII except `%`, `?` and
/// `#`, and converts other escapes to upper case. This decodes more than RFC 3986 calls equivalent, because routers
/// decode segments before they compare them.
///
/// # Errors
/// [`Ambiguous`] for `.` and `..` segments, empty segments, encoded slashes and backslashes, backslashes, control
/// characters, fragments, bytes outside ASCII, malformed escapes, and `;`, at which some servers cut a segment.
pub fn normalise(target: &[u8]) -> Result<Cow<'_, str>, Ambiguous> {
    let target = std::str::from_utf8(target).map_err(|_| Ambiguous)?;
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if target.contains('#')
        || !path
            .bytes()
            .all(|b| matches!(b, 0x21..=0x7e) && b != b'\\' && b != b';')
    {
        return Err(Ambiguous);
    }
    if path == "*" {
        // OPTIONS * (RFC 9110, section 9.3.7).
        return Ok(Cow::Borrowed(path));
    }
    let path = if path.contains('%') {
        Cow::Owned(decode(path)?)
    } else {
        Cow::Borrowed(path)
    };
    let segments = path.strip_prefix('/').ok_or(Ambiguous)?;
    // A trailing slash is an empty last segment, which is allowed.
    let inner = segments.strip_suffix('/').unwrap_or(segments);
    let valid = |segment: &str| !matches!(segment, "" | "." | "..");
    if segments.is_empty() || inner.split('/').all(valid) {
        Ok(path)
    } else {
        Err(Ambiguous)
    }
}

fn decode(path: &str) -> Result<String, Ambiguous> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let (hex, tail) = after.split_at_checked(2).ok_or(Ambiguous)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Ambiguous);
        }
        match u8::from_str_radix(hex, 16).map_err(|_| Ambiguous)? {
            b'/' | b'\\' | b';' | 0x00..=0x1f | 0x7f => return Err(Ambiguous),
            // `%`, `?` and `#` would change their meaning if they were decoded.
            byte @ 0x21..=0x7e if !b"%?#".contains(&byte) => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = tail;
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// Decodes the escapes of characters that are special in path patterns, such as `%2A` for `*`, so that a
/// configuration can contain them literally. A [normalised](normalise) path contains them unescaped.
pub(crate) fn literal(text: &str) -> Cow<'_, str> {
    const PATTERN: &[u8] = b"*<>[]|^$+:{}";
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let hex = after
            .get(..2)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(|byte| PATTERN.contains(byte)) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push('%');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unambiguous_paths_are_normalised() {
        for (target, path) in [
            ("/", "/"),
            ("/orders/7?x=/../#", ""),
            ("/orders/7?x=/..//y", "/orders/7"),
            ("/orders/", "/orders/"),
            ("/%6frders", "/orders"),
            ("/a%20b", "/a%20b"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/v1/models%3apredict", "/v1/models:predict"),
            ("/users/%40me", "/users/@me"),
            ("/a%7Bb%7d%25%3F", "/a{b}%25%3F"),
            ("*", "*"),
        ] {
            let expected = if path.is_empty() {
                Err(Ambiguous)
            } else {
                Ok(Cow::Borrowed(path))
            };
            assert_eq!(normalise(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for target in [
            "",
            "orders",
            "//",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a#b",
            "/a b",
            "/%zz",
            "/%4",
            "/%",
            "/..;x/b",
            "/a;v=1/b",
            "/a%3bx",
            "/a/.;/b",
            "/%+1",
            "http://other/a",
        ] {
            assert_eq!(normalise(target.as_bytes()), Err(Ambiguous), "{target}");
        }
        assert_eq!(normalise(b"/caf\xe9"), Err(Ambiguous));
        assert_eq!(normalise("/café".as_bytes()), Err(Ambiguous));
    }

    #[test]
    fn special_characters_are_decoded() {
        for (text, plain) in [
            ("/a/%2A", "/a/*"),
            ("/%7bid%7D", "/{id}"),
            ("/a%20b%2a", "/a%20b*"),
            ("/%", "/%"),
            ("/%2", "/%2"),
            ("/%é", "/%é"),
            ("/a", "/a"),
        ] {
            assert_eq!(literal(text), plain, "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalisation_is_idempotent(target in "/[a-zA-Z0-9%./;~_-]{0,40}") {
            if let Ok(once) = normalise(target.as_bytes()) {
                prop_assert_eq!(normalise(once.as_bytes()), Ok(once.clone()));
            }
        }

        #[test]
        fn no_input_panics(target in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = normalise(&target);
        }
    }
}
