//! The policy's configuration.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, imports};

/// Parses the configuration of this entry in the host's settings.
///
/// Every request runs in a new instance, which parses the configuration again: keep it small, or see [`config_text`].
///
/// # Errors
/// [`Error::Misconfigured`] with the path of the invalid field, but not its value, which may be secret.
pub fn config<T: DeserializeOwned>() -> Result<T, Error> {
    parse_config(&config_text())
}

/// The configuration as JSON text; `{}` if the entry has none. [`parse_config`] can parse it into a type that borrows from
/// it, which avoids allocations.
#[must_use]
pub fn config_text() -> String {
    imports::config::get()
}

/// Parses configuration text into a type that may borrow from it; see [`config`].
///
/// # Errors
/// As [`config`].
pub fn parse_config<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| locate_error::<T>(text))
}

/// Parses the text again to find the path of the error. Only an invalid configuration pays for this.
#[cold]
fn locate_error<'a, T: Deserialize<'a>>(text: &'a str) -> Error {
    let mut reader = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => Error::Misconfigured("the configuration is not one JSON document".into()),
        Err(error) => Error::Misconfigured(describe(
            &error.path().to_string(),
            &error.inner().to_string(),
            error.inner().is_data(),
        )),
    }
}

/// Removes the offending value, which may be secret, from serde's message.
fn describe(path: &str, message: &str, is_data: bool) -> String {
    if !is_data {
        return "the configuration is not JSON".into();
    }
    let message = message
        .rsplit_once(" at line ")
        .map_or(message, |(before, _)| before);
    let quotes = ["invalid ", "unknown variant "]
        .iter()
        .any(|start| message.starts_with(start));
    let message = match message.rsplit_once(", expected ") {
        Some((_, expected)) if quotes => format!("expected {expected}"),
        None if quotes => "the value is not allowed here".into(),
        _ => message.to_owned(),
    };
    if path == "." {
        message
    } else {
        format!("{path}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Config<'a> {
        name: &'a str,
        #[serde(default)]
        limits: Vec<Limit>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    enum Limit {
        Max(u32),
        Min(u32),
    }

    #[test]
    fn an_error_has_the_path_but_not_the_value() {
        for (text, expected) in [
            (r#"{"name": "x", "limits": [{"max": 1}]}"#, ""),
            (r#"{}"#, "missing field `name`"),
            (r#"{"name": 7}"#, "name: expected a borrowed string"),
            (
                r#"{"name": "x", "nmae": 1}"#,
                "nmae: unknown field `nmae`, expected `name` or `limits`",
            ),
            (
                r#"{"name": "x", "limits": [{"max": 1}, {"max": "s3cret, expected s3cret"}]}"#,
                "limits[1].max: expected u32",
            ),
            (
                r#"{"name": "x", "limits": [{"max": -1}]}"#,
                "limits[0].max: expected u32",
            ),
            (
                r#"{"name": "x", "limits": ["s3cret"]}"#,
                "limits[0]: expected `max` or `min`",
            ),
            (r#"{"name": s3cret}"#, "the configuration is not JSON"),
            (
                r#"{"name": "x"} s3cret"#,
                "the configuration is not one JSON document",
            ),
            ("", "the configuration is not JSON"),
        ] {
            let found = match parse_config::<Config<'_>>(text) {
                Ok(_) => String::new(),
                Err(Error::Misconfigured(why)) => why,
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn an_entry_without_configuration_has_an_empty_object() {
        let request = crate::testing::request().build();
        assert_eq!(Host::new().call(|_| config_text(), &request), "{}");
    }
}
