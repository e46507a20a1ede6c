//! Patterns of other routers that mean nothing here. Read as literal text they match no request, and a weaker rule
//! decides instead: they are refused, with the spelling that is meant.

/// Why a path's text is no literal path, and what to write instead; `None` for text that can be compared as it stands.
///
/// A character that is meant literally is written percent-encoded: `%2A` for `*`.
pub(super) fn unsupported(text: &str) -> Option<String> {
    if matches!(text, "*" | "**" | "/*" | "/**") {
        return Some("\"*\" is no pattern: leave \"path\" out for any path".to_owned());
    }
    if text.contains(['[', ']', '|', '^'])
        || text.contains(".+")
        || text.contains(".*")
        || text.ends_with('$')
    {
        return Some(format!(
            "regular expressions are none of the patterns; use \"exact\", \"prefix\" or \"template\"{}",
            escape_hint(text)
        ));
    }
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    let mut unsupported = segments.iter().filter(|segment| is_pattern(segment)).peekable();
    unsupported.peek()?;
    let literal = |segments: &[&str]| segments.iter().all(|s| !is_pattern(s) && !s.contains(['{', '}']));
    let meant = match segments.split_last() {
        Some((last, before)) if literal(before) && wildcard_stem(last).is_some() => {
            let stem = wildcard_stem(last).unwrap_or_default();
            let joined = join_path(before, stem);
            let whole = if stem.is_empty() {
                String::new()
            } else {
                format!(" and nothing that only begins alike, such as \"{joined}-old\"")
            };
            format!("write prefix: {joined}, which takes \"{joined}\" itself and all below{whole}")
        }
        _ if segments
            .iter()
            .any(|segment| *segment == "**" || *segment == "...") =>
        {
            "no pattern stands for several segments; write a prefix that ends before them".to_owned()
        }
        _ => match template(&segments) {
            Some(template) => {
                format!("write template: {template}, in which {{name}} stands for one whole segment")
            }
            None => {
                "no pattern stands for a part of a segment; write a template with {name} for all of it, or a \
                     prefix that ends before it"
                    .to_owned()
            }
        },
    };
    Some(format!("{meant}{}", escape_hint(text)))
}

/// What a method's text means elsewhere: any method.
pub(super) fn is_any_method(text: &str) -> bool {
    ["*", "ANY", "ALL"]
        .iter()
        .any(|any| text.eq_ignore_ascii_case(any))
}

/// Whether a placeholder's name is one, and nothing that other routers write there: `{path=**}`, `{id:[0-9]+}`,
/// `{rest...}`, `{*rest}`, `{id?}`.
pub(super) fn is_placeholder_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    name.bytes().all(plain) && !name.starts_with('.') && !name.ends_with('.') && !name.is_empty()
}

fn is_pattern(segment: &str) -> bool {
    segment.contains(['*', '<', '>']) || segment.starts_with(':') || matches!(segment, "..." | "+")
}

/// What stands in front of the star in a last segment that means "all below": `*`, `**`, `...`, `admin*`.
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

/// The template that is meant, if each foreign segment stands for one whole segment.
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

/// How to write the first of the pattern's characters where it is meant literally.
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
    fn what_is_meant_is_said() {
        for (text, meant) in [
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
            ("/a/**/b", "no pattern stands for several segments"),
            ("/a/x*y", "no pattern stands for a part of a segment"),
            ("/a/*.json", "no pattern stands for a part of a segment"),
            ("*", "leave \"path\" out"),
            ("/*", "leave \"path\" out"),
            ("/v[12]/x", "regular expressions"),
            ("/(a|b)", "regular expressions"),
            ("/a/.*", "regular expressions"),
            ("/a/.+", "regular expressions"),
            ("/admin$", "regular expressions"),
            ("^/admin", "regular expressions"),
        ] {
            let found = unsupported(text).unwrap_or_else(|| panic!("{text} is taken"));
            assert!(found.contains(meant), "{text}: {found}");
        }
        assert!(unsupported("/admin/*").is_some_and(|why| why.ends_with("a literal \"*\" is written %2A")));
    }

    #[test]
    fn literal_paths_are_left_alone() {
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
    fn names_of_placeholders() {
        for (name, is) in [
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
            assert_eq!(is_placeholder_name(name), is, "{name}");
        }
    }
}
