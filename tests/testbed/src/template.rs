//! Replaces `{{NAME}}` in Envoy configurations.
//!
//! Deliberately not a template language, so that a template still reads as an Envoy bootstrap.

use serde_json::Value;

/// A placeholder without a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value for the placeholder {{{{{name}}}}} in the template")]
pub struct MissingValue {
    /// The placeholder's name.
    pub name: String,
}

/// Replaces each `{{NAME}}` (capitals, digits and `_`) with its value. Placeholders in values are not replaced, and
/// other double braces in the text stay as they are.
///
/// # Errors
///
/// When the text contains a placeholder that `values` does not name.
pub fn render(text: &str, values: &[(&str, &str)]) -> Result<String, MissingValue> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        rest = match after.split_once("}}") {
            Some((name, tail)) if is_name(name) => {
                let value = values.iter().find(|(known, _)| *known == name);
                let (_, value) = value.ok_or_else(|| MissingValue {
                    name: name.to_owned(),
                })?;
                filled.push_str(value);
                tail
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

/// JSON on one line of ASCII, which fits a YAML block scalar whatever strings it contains.
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

/// Escapes a line of text for a YAML single-quoted scalar, without the quotes around it.
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
            "no value for the placeholder {{LISTEN_PORT}} in the template"
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
