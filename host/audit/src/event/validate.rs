//! Checks that every store can hold an event.

use serde_json::Value;

use super::Event;

/// An event that cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A string or `detail` is too long.
    #[error("{field} has more than {most} bytes")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The limit in bytes.
        most: usize,
    },
    /// A string contains U+0000, which Postgres cannot store.
    #[error("{field} contains the character U+0000")]
    Nul {
        /// The field.
        field: &'static str,
    },
    /// The values of `detail` are nested too deep.
    #[error("detail is nested more than {} levels deep", Event::DEEPEST)]
    TooDeep,
    /// RFC 8785 writes numbers as doubles, which would change this one. It can be sent as a string.
    #[error(
        "{field} contains an integer beyond 2^53, which the canonical form cannot represent; send it as a string"
    )]
    InexactNumber {
        /// The field.
        field: &'static str,
    },
}

/// The bound up to which a double represents every integer exactly.
const EXACT: u64 = 1 << 53;

impl Event {
    /// The limit of a string, in bytes; that of `path` is eight times as large.
    pub const LONGEST: usize = 256;

    /// The limit of `detail`, in bytes, counted before JSON escapes.
    pub const LONGEST_DETAIL: usize = 16_384;
    /// The limit of nesting in `detail`.
    pub const DEEPEST: usize = 16;

    /// Checks that every store can hold the event.
    ///
    /// # Errors
    /// The first violation.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        let strings = [
            ("gateway", &self.gateway, Self::LONGEST),
            ("method", &self.method, Self::LONGEST),
            ("path", &self.path, 8 * Self::LONGEST),
            ("policy", &self.policy, Self::LONGEST),
            ("policy_digest", &self.policy_digest, Self::LONGEST),
            ("reason", &self.reason, Self::LONGEST),
            ("request_id", &self.request_id, Self::LONGEST),
            ("rule", &self.rule, Self::LONGEST),
            ("signer_id", &self.signer_id, Self::LONGEST),
            ("subject", &self.subject, Self::LONGEST),
            ("tenant", &self.tenant, Self::LONGEST),
        ];
        for (field, string, most) in strings {
            let Some(string) = string else { continue };
            if string.len() > most {
                return Err(InvalidEvent::TooLong { field, most });
            }
            check_nul(field, string)?;
        }
        if self.latency_us.is_some_and(|us| us > EXACT) {
            return Err(InvalidEvent::InexactNumber { field: "latency_us" });
        }
        let mut remaining = Self::LONGEST_DETAIL;
        for (name, value) in &self.detail {
            consume(&mut remaining, name.len())?;
            check_nul("detail", name)?;
            check_value(value, Self::DEEPEST, &mut remaining)?;
        }
        Ok(())
    }
}

fn check_nul(field: &'static str, string: &str) -> Result<(), InvalidEvent> {
    if string.contains('\0') {
        return Err(InvalidEvent::Nul { field });
    }
    Ok(())
}

fn consume(remaining: &mut usize, bytes: usize) -> Result<(), InvalidEvent> {
    // Quotes and a comma, or the digits of a number.
    let bytes = bytes + 4;
    *remaining = remaining.checked_sub(bytes).ok_or(InvalidEvent::TooLong {
        field: "detail",
        most: Event::LONGEST_DETAIL,
    })?;
    Ok(())
}

fn check_value(value: &Value, depth: usize, remaining: &mut usize) -> Result<(), InvalidEvent> {
    let depth = depth.checked_sub(1).ok_or(InvalidEvent::TooDeep)?;
    match value {
        Value::Null | Value::Bool(_) => consume(remaining, 1),
        Value::Number(number) => {
            let integer = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if integer.is_some_and(|n| n > EXACT) {
                return Err(InvalidEvent::InexactNumber { field: "detail" });
            }
            consume(remaining, 20)
        }
        Value::String(string) => {
            check_nul("detail", string)?;
            consume(remaining, string.len())
        }
        Value::Array(values) => {
            consume(remaining, 0)?;
            values
                .iter()
                .try_for_each(|value| check_value(value, depth, remaining))
        }
        Value::Object(fields) => {
            consume(remaining, 0)?;
            fields.iter().try_for_each(|(name, value)| {
                check_nul("detail", name)?;
                consume(remaining, name.len())?;
                check_value(value, depth, remaining)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Kind, Time};

    fn with_detail(detail: Value) -> Event {
        let mut event = Event::new(Kind::Policy, Time::EPOCH);
        event.detail.insert("it".into(), detail);
        event
    }

    #[test]
    fn an_event_that_no_store_can_hold_is_invalid() {
        let with_path = |path: &str| Event {
            path: Some(path.into()),
            ..Event::new(Kind::Request, Time::EPOCH)
        };
        let number = |field| Err(InvalidEvent::InexactNumber { field });
        let slow = Event {
            latency_us: Some(9_007_199_254_740_993),
            ..Event::new(Kind::Request, Time::EPOCH)
        };
        let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
        let long = InvalidEvent::TooLong {
            field: "detail",
            most: Event::LONGEST_DETAIL,
        };
        for (event, expected) in [
            (with_path("/"), Ok(())),
            (with_path(&"/".repeat(2048)), Ok(())),
            (
                with_path(&"/".repeat(2049)),
                Err(InvalidEvent::TooLong {
                    field: "path",
                    most: 2048,
                }),
            ),
            (with_path("/\0"), Err(InvalidEvent::Nul { field: "path" })),
            (
                with_detail(json!("a\0")),
                Err(InvalidEvent::Nul { field: "detail" }),
            ),
            (
                with_detail(json!({"a\0": 1})),
                Err(InvalidEvent::Nul { field: "detail" }),
            ),
            (with_detail(json!({"a": [1, 2.5, null, true, "b"]})), Ok(())),
            (with_detail(deep), Err(InvalidEvent::TooDeep)),
            (with_detail(json!(9_007_199_254_740_992_u64)), Ok(())),
            (with_detail(json!(9_007_199_254_740_993_u64)), number("detail")),
            (with_detail(json!(-9_007_199_254_740_993_i64)), number("detail")),
            (slow, number("latency_us")),
            (
                with_detail(json!("a".repeat(Event::LONGEST_DETAIL))),
                Err(long.clone()),
            ),
            (with_detail(json!(vec![0; 1000])), Err(long)),
        ] {
            assert_eq!(event.check(), expected, "{event:?}");
        }
    }
}
