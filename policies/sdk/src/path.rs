//! Path templates such as `/kernel/audit/{id}`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};

/// A path template.
///
/// `{name}` matches one non-empty segment. `{name..}` at the end matches the rest of the path, which may be empty:
/// `/files/{rest..}` matches `/files/` and `/files/a/b`, but not `/files`. All other text must match exactly.
/// Deserialising a template validates it. `S` is the type of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<S = String>(S);

/// A template is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateError(&'static str);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for TemplateError {}

impl<S: AsRef<str>> Template<S> {
    /// Parses a template.
    ///
    /// # Errors
    /// If it does not begin with `/`, has an empty segment inside, a brace that is not around a whole segment, or
    /// `{name..}` anywhere but at the end.
    pub fn new(text: S) -> Result<Self, TemplateError> {
        check(text.as_ref())?;
        Ok(Self(text))
    }

    /// Whether the path matches the template.
    #[must_use]
    #[inline]
    pub fn matches(&self, path: &str) -> bool {
        self.match_segments(path, |_, _| ())
    }

    /// The part of the path that `{name}` matches; `None` if the path does not match or there is no `{name}`.
    #[must_use]
    pub fn capture<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let mut captured = None;
        let matches = self.match_segments(path, |found, value| {
            if found == name {
                captured = Some(value);
            }
        });
        captured.filter(|_| matches)
    }

    /// Whether the template contains `{name}` or `{name..}`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0
            .as_ref()
            .split('/')
            .filter_map(placeholder)
            .any(|found| found.strip_suffix("..").unwrap_or(found) == name)
    }

    fn match_segments<'p>(&self, path: &'p str, mut found: impl FnMut(&str, &'p str)) -> bool {
        let template = self.0.as_ref().strip_prefix('/');
        let (Some(mut template), Some(mut path)) = (template, path.strip_prefix('/')) else {
            return false;
        };
        loop {
            let (expected, expected_rest) = split_segment(template);
            let (actual, actual_rest) = split_segment(path);
            match placeholder(expected) {
                Some(name) => match name.strip_suffix("..") {
                    Some(name) => {
                        found(name, path);
                        return true;
                    }
                    None if actual.is_empty() => return false,
                    None => found(name, actual),
                },
                None if expected == actual => (),
                None => return false,
            }
            match (expected_rest, actual_rest) {
                (Some(expected), Some(actual)) => (template, path) = (expected, actual),
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

fn split_segment(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

fn placeholder(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn check(text: &str) -> Result<(), TemplateError> {
    let mut rest = Some(
        text.strip_prefix('/')
            .ok_or(TemplateError("a path template must begin with `/`"))?,
    );
    while let Some(template) = rest {
        let (segment, more) = split_segment(template);
        rest = more;
        match placeholder(segment) {
            Some(name) => {
                let plain = name.strip_suffix("..").unwrap_or(name);
                if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return Err(TemplateError(
                        "a path template's `{name}` needs a name of letters, digits and `_`",
                    ));
                }
                if plain.len() < name.len() && more.is_some() {
                    return Err(TemplateError("`{name..}` must be at the end of a path template"));
                }
            }
            None if segment.bytes().any(|b| matches!(b, b'{' | b'}')) => {
                return Err(TemplateError(
                    "`{name}` must be a whole segment of a path template",
                ));
            }
            None if segment.is_empty() && more.is_some() => {
                return Err(TemplateError(
                    "a path template must not have an empty segment inside",
                ));
            }
            None => (),
        }
    }
    Ok(())
}

impl<'de, S: AsRef<str> + Deserialize<'de>> Deserialize<'de> for Template<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(S::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matching() {
        for (template, path, matches) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/A", false),
            ("/a", "/a/", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/kernel/audit/{id}", "/kernel/audit/7", true),
            ("/kernel/audit/{id}", "/kernel/audit/", false),
            ("/kernel/audit/{id}", "/kernel/audit", false),
            ("/kernel/audit/{id}", "/kernel/audit/7/8", false),
            ("/{a}/b/{c}", "/x/b/{c}", true),
            ("/{a}/b/{c}", "/x/c/y", false),
            ("/files/{rest..}", "/files/", true),
            ("/files/{rest..}", "/files/a/b", true),
            ("/files/{rest..}", "/files", false),
            ("/{rest..}", "/", true),
            ("/{rest..}", "*", false),
            ("/{rest..}", "", false),
            ("/caf%C3%A9", "/caf%C3%A9", true),
        ] {
            assert_eq!(
                Template::new(template).unwrap().matches(path),
                matches,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn captures() {
        let template = Template::new("/t/{tenant}/{rest..}").unwrap();
        assert_eq!(template.capture("/t/acme/a/b", "tenant"), Some("acme"));
        assert_eq!(template.capture("/t/acme/a/b", "rest"), Some("a/b"));
        assert_eq!(template.capture("/t/acme/a/b", "other"), None);
        assert_eq!(template.capture("/u/acme/a/b", "tenant"), None);
        assert_eq!(template.capture("/t/acme", "tenant"), None);
        assert!(template.has("tenant") && template.has("rest") && !template.has("t"));
    }

    #[test]
    fn invalid_templates_are_rejected() {
        for text in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/{}",
            "/{..}",
            "/{a",
            "/a}",
            "/{a}.json",
            "/{a..}/b",
            "/{a b}",
            "/{{a}}",
        ] {
            assert!(Template::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deserialising_a_template_validates_it() {
        let read: Template = serde_json::from_str(r#""\/a\/{b}""#).unwrap();
        assert!(read.matches("/a/b"));
        let borrowed: Template<&str> = serde_json::from_str(r#""/a/{b}""#).unwrap();
        assert!(borrowed.matches("/a/b"));
        let error = serde_json::from_str::<Template>(r#""a""#).unwrap_err();
        assert!(error.to_string().contains("must begin with `/`"));
    }

    proptest! {
        #[test]
        fn no_text_panics(template in "[/a-c{}.]{0,20}", path in "\\PC{0,30}") {
            if let Ok(template) = Template::new(template) {
                let matched = template.matches(&path);
                prop_assert!(matched || template.capture(&path, "a").is_none());
            }
        }
    }
}
