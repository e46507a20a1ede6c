//! A rule's `audit`.

use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef};
use postern_config::ConfigErrors;

/// Whether the audit log is told of a rule's requests. Some readers of YAML take `on` and `off` for `true` and `false`,
/// which therefore mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// The log holds each before it is released, or it is refused with 503.
    Required,
    /// It is told of each once it is answered.
    On,
    /// It is not told.
    Off,
}

impl Deserr<ConfigErrors> for Telling {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let error = match &value {
            Value::Boolean(true) => return Ok(Self::On),
            Value::Boolean(false) => return Ok(Self::Off),
            Value::String(text) => match text.as_str() {
                "required" => return Ok(Self::Required),
                "on" => return Ok(Self::On),
                "off" => return Ok(Self::Off),
                other => ErrorKind::UnknownValue {
                    value: other,
                    accepted: &["required", "on", "off"],
                },
            },
            _ => ErrorKind::IncorrectValueKind {
                actual: value,
                accepted: &[ValueKind::String],
            },
        };
        let (ControlFlow::Continue(errors) | ControlFlow::Break(errors)) =
            ConfigErrors::error(None, error, location);
        Err(errors)
    }
}
