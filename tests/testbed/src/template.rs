//! Filling in `{{NAME}}` in Envoy configurations.
//!
//! Deliberately not a template language: an Envoy bootstrap that a test uses should be readable as one.

use serde_json::Value;

/// A placeholder that no value was given for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template's placeholder {{{{{name}}}}} was given no value")]
pub struct Unfilled {
    /// The placeholder's name.
    pub name: String,
}

/// Replaces each `{{NAME}}` (capitals, digits and `_`) by its value. Values are not looked into, so one may
/// contain braces; other double braces in the text stay as they are.
///
/// # Errors
///
/// When the text holds a placeholder that `values` does not name.
pub fn render(text: &str, values: &[(&str, &str)]) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        rest = match after.split_once("}}") {
            Some((name, behind)) if is_name(name) => {
                let value = values.iter().find(|(known, _)| *known == name);
                let (_, value) = value.ok_or_else(|| Unfilled {
                    name: name.to_owned(),
                })?;
                filled.push_str(value);
                behind
            }
            _ => {
                filled.push_str("{{");
                after
            }
        };
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// JSON on one line and in ASCII, so that it can stand in a YAML block scalar whatever strings it holds.
#[must_use]
pub fn one_line_json(value: &Value) -> String {
    let mut line = String::new();
    for unit in value.to_string().encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() && byte != 0x7f => line.push(char::from(byte)),
            _ => line.push_str(&format!("\\u{unit:04x}")),
        }
    }
    line
}

/// A text of one line as the inside of a YAML single-quoted scalar.
#[must_use]
pub fn single_quoted(text: &str) -> String {
    text.replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_replaced_and_nothing_else() {
        let text = "port: {{PORT}} # {{PORT}}, {{ not }}, {{}}, {{x}}, {a: {b: 1}}, {{";
        assert_eq!(
            render(text, &[("PORT", "80"), ("UNUSED", "")]).unwrap(),
            "port: 80 # 80, {{ not }}, {{}}, {{x}}, {a: {b: 1}}, {{"
        );
    }

    #[test]
    fn a_value_is_not_a_template() {
        assert_eq!(render("{{A}}", &[("A", "{{B}}"), ("B", "no")]).unwrap(), "{{B}}");
    }

    #[test]
    fn a_placeholder_without_a_value_is_named() {
        let error = render("{{LISTEN_PORT}}", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the template's placeholder {{LISTEN_PORT}} was given no value"
        );
    }

    #[test]
    fn json_of_any_string_fits_one_line_of_ascii() {
        let value = json!({"a": "it's \"q\"\n\u{2028}é😀\u{7f}"});
        let line = one_line_json(&value);
        assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
        assert_eq!(single_quoted("it's"), "it''s");
    }
}
