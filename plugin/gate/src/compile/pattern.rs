//! Detects patterns of other routers, which are not supported. As literal text they would match no request, and a
//! weaker rule would apply instead. They are rejected, and the error suggests the intended spelling.

/// If `text` is a pattern of another router, why it is not supported and what to write instead. A literal character
/// is written percent-encoded: `%2A` for `*`.
pub(super) fn unsupported(text: &str) -> Option<String> {
    if matches!(text, "*" | "**" | "/*" | "/**") {
        return Some("\"*\" is not a pattern; leave \"path\" out to match any path".to_owned());
    }
    if text.contains(['[', ']', '|', '^'])
        || text.contains(".+")
        || text.contains(".*")
        || text.ends_with('$')
    {
        return Some(format!(
            "regular expressions are not supported; use \"exact\", \"prefix\" or \"template\"{}",
            escape_hint(text)
        ));
    }
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    let mut unsupported = segments.iter().filter(|segment| is_pattern(segment)).peekable();
    unsupported.peek()?;
    let literal = |segments: &[&str]| segments.iter().all(|s| !is_pattern(s) && !s.contains(['{', '}']));
    let hint = match segments.split_last() {
        Some((last, before)) if literal(before) && wildcard_stem(last).is_some() => {
            let stem = wildcard_stem(last).unwrap_or_default();
            let joined = join_path(before, stem);
            let exclusion = if stem.is_empty() {
                String::new()
            } else {
                format!(" but not, for example, \"{joined}-old\"")
            };
            format!("write prefix: {joined}, which matches \"{joined}\" itself and everything below{exclusion}")
        }
        _ if segments
            .iter()
            .any(|segment| *segment == "**" || *segment == "...") =>
        {
            "no pattern matches several segments; write a prefix that ends before them".to_owned()
        }
        _ => match template(&segments) {
            Some(template) => {
                format!("write template: {template}, in which {{name}} matches one whole segment")
            }
            None => {
                "no pattern matches a part of a segment; write a template with {name} for the whole segment, or a \
                     prefix that ends before it"
                    .to_owned()
            }
        },
    };
    Some(format!("{hint}{}", escape_hint(text)))
}

/// Whether other routers read `text` as "any method".
pub(super) fn is_any_method(text: &str) -> bool {
    ["*", "ANY", "ALL"]
        .iter()
        .any(|any| text.eq_ignore_ascii_case(any))
}

/// Whether a placeholder's name is valid. Rejects the syntax of other routers: `{path=**}`, `{id:[0-9]+}`,
/// `{rest...}`, `{*rest}`, `{id?}`.
pub(super) fn is_placeholder_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    name.bytes().all(allowed) && !name.starts_with('.') && !name.ends_with('.') && !name.is_empty()
}

fn is_pattern(segment: &str) -> bool {
    segment.contains(['*', '<', '>']) || segment.starts_with(':') || matches!(segment, "..." | "+")
}

/// The text before the wildcard of a last segment that means "everything below": `*`, `**`, `...`, `admin*`.
fn wildcard_stem(segment: &str) -> Option<&str> {
    let stem = if segment == "..." {
        ""
    } else {
        segment.strip_suffix("**").or_else(|| segment.strip_suffix('*'))?
    };
    (!is_pattern(stem) && !stem.contains(['{', '}'])).then_some(stem)
}

fn join_path(before: &[&str], stem: &str) -> String {
    let mut path: String = before.iter().map(|segment| format!("/{segment}")).collect();
    if !stem.is_empty() {
        path.push('/');
        path.push_str(stem);
    }
    path
}

/// The equivalent template, if each wildcard matches one whole segment.
fn template(segments: &[&str]) -> Option<String> {
    let mut text = String::new();
    for (i, segment) in segments.iter().enumerate() {
        text.push('/');
        if !is_pattern(segment) {
            text.push_str(segment);
            continue;
        }
        let name = match *segment {
            "*" | "+" => "",
            segment => segment
                .strip_prefix(':')
                .or_else(|| segment.strip_prefix('<')?.strip_suffix('>'))
                // Flask writes <converter:name>.
                .map(|name| name.rsplit_once(':').map_or(name, |(_, name)| name))?,
        };
        match name {
            "" => text.push_str(&format!("{{any{}}}", i + 1)),
            name if is_placeholder_name(name) => text.push_str(&format!("{{{name}}}")),
            _ => return None,
        }
    }
    Some(text)
}

/// How to write the first special character of the pattern literally.
fn escape_hint(text: &str) -> String {
    let found = |special: &'static str| text.chars().find(|c| special.contains(*c));
    match found("*<>[]|^$").or_else(|| found("+:")) {
        Some(c) => format!("; a literal \"{c}\" is written %{:02X}", u32::from(c)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intended_spelling_is_suggested() {
        for (text, hint) in [
            ("/admin/*", "write prefix: /admin, "),
            ("/admin/**", "write prefix: /admin, "),
            ("/admin/...", "write prefix: /admin, "),
            ("/admin*", "write prefix: /admin, "),
            ("/a/b*", "write prefix: /a/b, "),
            ("/admin/:id", "write template: /admin/{id}, "),
            ("/users/<id>", "write template: /users/{id}, "),
            ("/users/<int:id>/x", "write template: /users/{id}/x, "),
            ("/users/*/orders", "write template: /users/{any2}/orders, "),
            ("/users/+/orders", "write template: /users/{any2}/orders, "),
            ("/*/*", "write template: /{any1}/{any2}, "),
            ("/users/:id/*", "write template: /users/{id}/{any3}, "),
            ("/users/{id}/*", "write template: /users/{id}/{any3}, "),
            ("/a/**/b", "no pattern matches several segments"),
            ("/a/x*y", "no pattern matches a part of a segment"),
            ("/a/*.json", "no pattern matches a part of a segment"),
            ("*", "leave \"path\" out"),
            ("/*", "leave \"path\" out"),
            ("/v[12]/x", "regular expressions"),
            ("/(a|b)", "regular expressions"),
            ("/a/.*", "regular expressions"),
            ("/a/.+", "regular expressions"),
            ("/admin$", "regular expressions"),
            ("^/admin", "regular expressions"),
        ] {
            let found = unsupported(text).unwrap_or_else(|| panic!("{text} is accepted"));
            assert!(found.contains(hint), "{text}: {found}");
        }
        assert!(unsupported("/admin/*").is_some_and(|why| why.ends_with("a literal \"*\" is written %2A")));
    }

    #[test]
    fn literal_paths_are_accepted() {
        for text in [
            "/",
            "/a",
            "/a/",
            "/v1/models:predict",
            "/Products(1)",
            "/$metadata",
            "/a+b/c",
            "/c++",
            "/~me",
            "/@me",
            "/a.b",
            "/a,b",
            "/{id}",
            "/a!'",
        ] {
            assert_eq!(unsupported(text), None, "{text}");
        }
    }

    #[test]
    fn placeholder_names() {
        for (name, expected) in [
            ("id", true),
            ("order_id", true),
            ("order.id", true),
            ("order-id", true),
            ("7", true),
            ("", false),
            ("*rest", false),
            ("rest...", false),
            ("path=**", false),
            ("id:[0-9]+", false),
            ("id?", false),
        ] {
            assert_eq!(is_placeholder_name(name), expected, "{name}");
        }
    }
}
