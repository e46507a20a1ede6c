//! Formats a signed request as a curl command.

use super::Header;
use crate::text::shell_quoted;

/// The curl command that sends exactly the signed request.
pub(super) fn line(method: &str, url: &str, headers: &[Header], data: Option<&str>) -> String {
    let mut line = String::from("curl -i");
    // `-X HEAD` would wait for a body that never comes.
    match (method, data) {
        ("HEAD", None) => line.push_str(" --head"),
        ("GET", None) | ("POST", Some(_)) => {}
        _ => line.push_str(&format!(" -X {}", shell_quoted(method))),
    }
    for (name, value) in headers {
        line.push_str(&format!(" -H {}", shell_quoted(&format!("{name}: {value}"))));
    }
    if let Some(data) = data {
        line.push_str(&format!(" --data-binary {}", shell_quoted(data)));
    }
    // curl would expand brackets and resolve dot segments, and so change the signed target.
    if url.contains(['[', ']', '{', '}']) {
        line.push_str(" --globoff");
    }
    if url.contains("/.") {
        line.push_str(" --path-as-is");
    }
    format!("{line} {}", shell_quoted(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_quoted_for_the_shell() {
        let header = [("x-a".to_owned(), "1".to_owned())];
        for (method, url, data, wanted) in [
            (
                "GET",
                "http://h/?a=1&b",
                None,
                "curl -i -H 'x-a: 1' 'http://h/?a=1&b'",
            ),
            (
                "POST",
                "http://h/",
                Some("it's"),
                r"curl -i -H 'x-a: 1' --data-binary 'it'\''s' 'http://h/'",
            ),
            (
                "PUT",
                "http://h/",
                Some("@a b"),
                "curl -i -X 'PUT' -H 'x-a: 1' --data-binary '@a b' 'http://h/'",
            ),
            (
                "HEAD",
                "http://h/{a}",
                None,
                "curl -i --head -H 'x-a: 1' --globoff 'http://h/{a}'",
            ),
            (
                "GET",
                "http://h/../a",
                None,
                "curl -i -H 'x-a: 1' --path-as-is 'http://h/../a'",
            ),
        ] {
            assert_eq!(line(method, url, &header, data), wanted);
        }
    }
}
