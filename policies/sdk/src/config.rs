//! The entry's configuration.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, imports};

/// The configuration of this entry in the host's settings.
///
/// It is read anew for each request, for each has an instance of its own: keep it small, or see [`config_text`].
///
/// # Errors
/// [`Error::Misconfigured`] with the path of the fault, without the value that stands there.
pub fn config<T: DeserializeOwned>() -> Result<T, Error> {
    parse_config(&config_text())
}

/// The configuration's JSON text; `{}` if the entry has none. For [`parse_config`] into a type that borrows from it,
/// which saves a policy in a hurry its allocations.
#[must_use]
pub fn config_text() -> String {
    imports::config::get()
}

/// What [`config`] does, from a text that outlives the result.
///
/// # Errors
/// As [`config`].
pub fn parse_config<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| locate_error::<T>(text))
}

/// Reads the text once more to learn where the fault is, which only a broken configuration needs to pay for.
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

/// serde's messages quote the value they complain of, which may be a secret.
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
        None if quotes => "not a value that is possible here".into(),
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
    fn a_fault_has_its_path_and_not_its_value() {
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
    fn an_entry_without_configuration_has_an_empty_one() {
        let request = crate::testing::request().build();
        assert_eq!(Host::new().call(|_| config_text(), &request), "{}");
    }
}
