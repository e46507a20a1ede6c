//! JSON pointers with wildcards.

use serde::Deserialize;
use serde_json::Value;

/// A JSON pointer (RFC 6901) in which `*` stands for every element of an array or member of an object.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(Vec<String>);

impl TryFrom<String> for Pointer {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let path = text
            .strip_prefix('/')
            .ok_or("a JSON pointer must begin with `/`")?;
        let unescaped = path
            .split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"));
        Ok(Self(unescaped.collect()))
    }
}

/// The values that a pointer selects.
#[derive(Debug, Default)]
pub(crate) struct Selection<'v> {
    pub(crate) found: Vec<&'v Value>,
    /// The pointer selects nothing, or nothing below at least one of the elements of a `*`. The other elements must not
    /// hide that.
    pub(crate) missing: bool,
}

impl Pointer {
    pub(crate) fn select<'v>(&self, document: &'v Value) -> Selection<'v> {
        let mut found = vec![document];
        let mut missing = false;
        for token in &self.0 {
            let mut next = Vec::new();
            for value in found {
                match (value, token.as_str()) {
                    (Value::Array(elements), "*") => next.extend(elements),
                    (Value::Object(members), "*") => next.extend(members.values()),
                    (Value::Array(elements), token) => match index(elements, token) {
                        Some(element) => next.push(element),
                        None => missing = true,
                    },
                    (Value::Object(members), token) => match members.get(token) {
                        Some(member) => next.push(member),
                        None => missing = true,
                    },
                    _ => missing = true,
                }
            }
            found = next;
        }
        missing |= found.is_empty();
        Selection { found, missing }
    }
}

fn index<'v>(elements: &'v [Value], token: &str) -> Option<&'v Value> {
    // RFC 6901, section 4: no sign and no leading zeros.
    let plain = token == "0" || !token.starts_with(['0', '+']);
    elements.get(token.parse::<usize>().ok().filter(|_| plain)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selections() {
        let document = json!({
            "a": {"b": [1, 2], "c/d": 3, "e~f": 4, "": 5},
            "items": [{"n": 6}, {"n": 7}],
            "holes": [{"n": 8}, {}],
            "none": [],
            "null": null,
        });
        for (pointer, expected, missing) in [
            ("/a/b/0", json!([1]), false),
            ("/a/b/01", json!([]), true),
            ("/a/b/+1", json!([]), true),
            ("/a/b/-", json!([]), true),
            ("/a/b/2", json!([]), true),
            ("/a/b/99999999999999999999999", json!([]), true),
            ("/a/b/*", json!([1, 2]), false),
            ("/a/c~1d", json!([3]), false),
            ("/a/e~0f", json!([4]), false),
            ("/a/", json!([5]), false),
            ("/items/*/n", json!([6, 7]), false),
            ("/holes/*/n", json!([8]), true),
            ("/none/*", json!([]), true),
            ("/none/*/n", json!([]), true),
            ("/null", json!([null]), false),
            ("/null/x", json!([]), true),
            ("/A", json!([]), true),
        ] {
            let pointer = Pointer::try_from(pointer.to_owned()).unwrap();
            let selection = pointer.select(&document);
            assert_eq!(json!(selection.found), expected, "{pointer:?}");
            assert_eq!(selection.missing, missing, "{pointer:?}");
        }
        assert!(Pointer::try_from("a".to_owned()).is_err());
        assert!(Pointer::try_from(String::new()).is_err());
    }
}
