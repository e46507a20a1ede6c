//! Redaction of request targets: removes what may be secret, which is the values of query and path parameters, user
//! names and passwords, and fragments.

use super::truncate;

/// The longest path in the log, in bytes.
const MAX_PATH: usize = 2048;
/// The longest name of a query parameter, in bytes. Longer ones are removed.
const MAX_NAME: usize = 64;

/// The path, and the names of query parameters: `/orders?page=2&size=50` becomes `/orders?page&size`. A name without
/// a value is removed, because it may be a value itself; so is anything that does not look like a name.
pub(super) fn redact_target(target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut redacted = String::with_capacity(target.len().min(MAX_PATH));
    for (index, segment) in origin_form(path).split('/').enumerate() {
        if index > 0 {
            redacted.push('/');
        }
        redacted.push_str(without_parameters(segment));
    }
    let mut separator = '?';
    for name in query.split('&').filter_map(name) {
        redacted.push(separator);
        redacted.push_str(name);
        separator = '&';
    }
    let length = truncate(&redacted, MAX_PATH).len();
    redacted.truncate(length);
    redacted
}

/// A path without scheme and authority, which may contain a user name and password.
fn origin_form(path: &str) -> &str {
    if path.starts_with('/') {
        return path;
    }
    match path.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"),
        // `*`, as in OPTIONS, or an authority: `user:password@host:443`.
        None => path.split('@').next_back().unwrap_or_default(),
    }
}

/// A segment up to the `;` before its parameters (RFC 3986, section 3.3), which may be session ids.
fn without_parameters(segment: &str) -> &str {
    segment.split_inclusive(';').next().unwrap_or_default()
}

fn name(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    // The padding of base64 looks like an empty value.
    if value.bytes().all(|byte| byte == b'=') {
        return None;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte);
    (!name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(allowed)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_removed() {
        for (target, wanted) in [
            ("/orders", "/orders"),
            ("/orders?page=2&size=50", "/orders?page&size"),
            ("/a?access_token=SECRET#SECRET", "/a?access_token"),
            ("/a?SECRET", "/a"),
            ("/a?SECRET&page=1", "/a?page"),
            ("/a?SECRET==", "/a"),
            ("/a?SECRET=", "/a"),
            ("/a?x=1;SECRET=2", "/a?x"),
            ("/a?x=1?SECRET", "/a?x"),
            ("/a?=SECRET", "/a"),
            ("/a?se%63ret%20SECRET=1", "/a"),
            ("/a;jsessionid=SECRET/b", "/a;/b"),
            ("/a#SECRET", "/a"),
            ("http://user:SECRET@host/a?b=SECRET", "/a?b"),
            ("http://user:SECRET@host", "/"),
            ("user:SECRET@host:443", "host:443"),
            ("*", "*"),
            ("", ""),
            ("/a?filter[name]=x&sort=-y", "/a?filter[name]&sort"),
        ] {
            assert_eq!(redact_target(target.as_bytes()), wanted, "{target}");
        }
    }

    #[test]
    fn the_result_is_bounded_and_valid_text() {
        assert_eq!(redact_target(b"/a\xffb"), "/a\u{fffd}b");
        let long = format!("/a{}", "ä".repeat(2000));
        assert_eq!(redact_target(long.as_bytes()).len(), MAX_PATH);
        let long = format!("/{}", "ä".repeat(2000));
        assert_eq!(
            redact_target(long.as_bytes()).len(),
            MAX_PATH - 1,
            "truncated between characters"
        );
        let names: String = (0..1000).map(|i| format!("name{i}=v&")).collect();
        assert!(redact_target(format!("/a?{names}").as_bytes()).len() <= MAX_PATH);
        let long = "n".repeat(MAX_NAME + 1);
        assert_eq!(redact_target(format!("/a?{long}=v").as_bytes()), "/a");
    }
}
