//! A rule's `audit`.

use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef};
use postern_config::ConfigErrors;

/// When the audit log records a rule's requests. `true` and `false` are accepted too, because some YAML parsers read
/// `on` and `off` so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// `off`: requests are not recorded.
    Off,
    /// `on`: requests are recorded once they are answered.
    AfterResponse,
    /// `required`: as `on`, and each admission is recorded before the request is released. A request whose admission
    /// is not durable is refused with 503.
    Required,
}

impl Deserr<ConfigErrors> for AuditMode {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let error = match &value {
            Value::Boolean(true) => return Ok(Self::AfterResponse),
            Value::Boolean(false) => return Ok(Self::Off),
            Value::String(text) => match text.as_str() {
                "required" => return Ok(Self::Required),
                "on" => return Ok(Self::AfterResponse),
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
