//! The target of a request: a URL, or a path alone.

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host[:port]`, if a URL was given.
    pub(crate) authority: Option<String>,
    /// Path and query, as they arrive in `:path`.
    pub(crate) path: String,
}

impl Target {
    /// Parses `/orders/7?x=1` or `https://api.example/orders/7?x=1`. Nothing is normalised: the gate must see what a
    /// client would send.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("must not contain spaces or control characters; write %20 for a space".to_owned());
        }
        if text.starts_with('/') || text == "*" {
            return Ok(Self {
                authority: None,
                path: text.to_owned(),
            });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("", ""));
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return Err(
                "must be a path such as /orders/7, or a URL such as https://host/orders/7".to_owned(),
            );
        }
        // Clients do not send the fragment.
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') {
            return Err("needs a host, and no user information".to_owned());
        }
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            authority: Some(authority.to_owned()),
            path,
        })
    }

    /// The path without its query, which may hold secrets.
    pub(crate) fn path_only(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }
}

/// Validates a method (RFC 9110, section 9.1): a case-sensitive token.
pub(crate) fn method(text: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || !text.bytes().all(token) {
        return Err("write a method such as GET or POST".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_or_a_url() {
        for (text, wanted) in [
            ("/a?x=1", Some((None, "/a?x=1"))),
            ("/a/../b#c", Some((None, "/a/../b#c"))),
            ("*", Some((None, "*"))),
            ("https://h:8443/a?b=c#d", Some((Some("h:8443"), "/a?b=c"))),
            ("HTTP://h", Some((Some("h"), "/"))),
            ("http://h?x", Some((Some("h"), "/?x"))),
            ("ftp://h/", None),
            ("orders", None),
            ("http:///a", None),
            ("http://user@h/", None),
            ("/a b", None),
        ] {
            let wanted = wanted.map(|(authority, path)| Target {
                authority: authority.map(str::to_owned),
                path: path.to_owned(),
            });
            assert_eq!(Target::parse(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn methods_are_tokens() {
        assert!(method("GET").is_ok() && method("M-SEARCH").is_ok());
        assert!(method("").is_err() && method("GET /").is_err());
    }

    #[test]
    fn the_query_is_left_out() {
        assert_eq!(Target::parse("/a?token=x").unwrap().path_only(), "/a");
    }
}
