//! Checks a document against a rule.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::config::{Limit, Rule};
use crate::pointer::Pointer;

/// The reason a document fails a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A field is missing, or required and null.
    Missing,
    /// A field has a type that cannot be compared: a string instead of a number, or an object instead of a scalar.
    WrongType,
    /// A number is outside its limits.
    OutOfRange,
    /// A value is on a deny list.
    Denied,
    /// A value is not on an allow list.
    NotAllowed,
}

pub(crate) fn check(rule: &Rule, document: &Value) -> Result<(), Violation> {
    for pointer in &rule.require {
        if select(pointer, document, false)?
            .iter()
            .any(|value| value.is_null())
        {
            return Err(Violation::Missing);
        }
    }
    for limit in &rule.limits {
        for value in select(&limit.at, document, limit.optional)? {
            check_limit(limit, value)?;
        }
    }
    for list in &rule.deny {
        for value in select(&list.at, document, true)? {
            if scalar_is_in(value, &list.values)? {
                return Err(Violation::Denied);
            }
        }
    }
    for list in &rule.allow {
        for value in select(&list.at, document, list.optional)? {
            if !scalar_is_in(value, &list.values)? {
                return Err(Violation::NotAllowed);
            }
        }
    }
    Ok(())
}

fn select<'v>(at: &Pointer, document: &'v Value, optional: bool) -> Result<Vec<&'v Value>, Violation> {
    let selection = at.select(document);
    if selection.missing && !optional {
        Err(Violation::Missing)
    } else {
        Ok(selection.found)
    }
}

fn check_limit(limit: &Limit, value: &Value) -> Result<(), Violation> {
    // A numeric string is not a number: the upstream may parse it differently.
    let Value::Number(number) = value else {
        return Err(Violation::WrongType);
    };
    let at_least = |min| matches!(compare(number, min), Some(Ordering::Greater | Ordering::Equal));
    let at_most = |max| matches!(compare(number, max), Some(Ordering::Less | Ordering::Equal));
    if limit.min.as_ref().is_none_or(at_least) && limit.max.as_ref().is_none_or(at_most) {
        Ok(())
    } else {
        Err(Violation::OutOfRange)
    }
}

/// Whether a scalar is in a list. Other types are violations: `["reserve"]` is not `"reserve"`, but an upstream may treat
/// it as such.
fn scalar_is_in(value: &Value, values: &[Value]) -> Result<bool, Violation> {
    match value {
        Value::Array(_) | Value::Object(_) => Err(Violation::WrongType),
        Value::Number(number) => Ok(values.iter().any(|listed| match listed {
            Value::Number(listed) => compare(number, listed) == Some(Ordering::Equal),
            _ => false,
        })),
        _ => Ok(values.contains(value)),
    }
}

/// Compares integers exactly, because doubles cannot represent large ones.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violation(rule: &Value, document: &Value) -> Option<Violation> {
        let mut object = json!({"name": "r", "path": "/"});
        let fields = rule.as_object().unwrap().clone();
        object.as_object_mut().unwrap().extend(fields);
        check(&serde_json::from_value(object).unwrap(), document).err()
    }

    #[test]
    fn numbers() {
        let rule = json!({"limits": [{"at": "/n", "min": 0, "max": 100}]});
        for (document, expected) in [
            (json!({"n": 0}), None),
            (json!({"n": 100}), None),
            (json!({"n": 100.0}), None),
            (json!({"n": 1e2}), None),
            (json!({"n": -0.0}), None),
            (json!({"n": 100.5}), Some(Violation::OutOfRange)),
            (json!({"n": 101}), Some(Violation::OutOfRange)),
            (json!({"n": -1}), Some(Violation::OutOfRange)),
            (json!({"n": 1e300}), Some(Violation::OutOfRange)),
            (json!({"n": u64::MAX}), Some(Violation::OutOfRange)),
            (json!({"n": i64::MIN}), Some(Violation::OutOfRange)),
            (json!({"n": "50"}), Some(Violation::WrongType)),
            (json!({"n": null}), Some(Violation::WrongType)),
            (json!({"n": true}), Some(Violation::WrongType)),
            (json!({"n": [50]}), Some(Violation::WrongType)),
            (json!({"N": 50}), Some(Violation::Missing)),
            (json!([50]), Some(Violation::Missing)),
            (json!(50), Some(Violation::Missing)),
        ] {
            assert_eq!(violation(&rule, &document), expected, "{document}");
        }
        let large = json!({"limits": [{"at": "/n", "max": 9_007_199_254_740_992_u64}]});
        assert_eq!(
            violation(&large, &json!({"n": 9_007_199_254_740_993_u64})),
            Some(Violation::OutOfRange)
        );
        let optional = json!({"limits": [{"at": "/n", "max": 1, "optional": true}]});
        assert_eq!(violation(&optional, &json!({})), None);
        assert_eq!(
            violation(&optional, &json!({"n": null})),
            Some(Violation::WrongType)
        );
    }

    #[test]
    fn lists_and_required_fields() {
        let rule = json!({
            "require": ["/agent", "/items/*/id"],
            "deny": [{"at": "/pool", "values": ["reserve", 5]}],
            "allow": [{"at": "/region", "values": ["eu-1", "eu-2", null]}],
        });
        let with = |pointer: &str, value: Value| {
            let mut document = json!({"agent": "a", "items": [{"id": 1}], "pool": "x", "region": "eu-1"});
            *document.pointer_mut(pointer).unwrap() = value;
            violation(&rule, &document)
        };
        for (pointer, value, expected) in [
            ("/agent", json!("b"), None),
            ("/agent", json!(null), Some(Violation::Missing)),
            ("/items", json!([]), Some(Violation::Missing)),
            ("/items", json!([{"id": 1}, {}]), Some(Violation::Missing)),
            (
                "/items",
                json!([{"id": 1}, {"id": null}]),
                Some(Violation::Missing),
            ),
            ("/pool", json!("reserve"), Some(Violation::Denied)),
            ("/pool", json!(5.0), Some(Violation::Denied)),
            ("/pool", json!(["reserve"]), Some(Violation::WrongType)),
            ("/pool", json!("RESERVE"), None),
            ("/pool", json!(null), None),
            ("/region", json!("eu-2"), None),
            ("/region", json!(null), None),
            ("/region", json!("us-1"), Some(Violation::NotAllowed)),
            ("/region", json!("eu-1 "), Some(Violation::NotAllowed)),
            ("/region", json!(1), Some(Violation::NotAllowed)),
            ("/region", json!({"eu-1": 1}), Some(Violation::WrongType)),
        ] {
            assert_eq!(with(pointer, value.clone()), expected, "{pointer} {value}");
        }
        assert_eq!(
            violation(&json!({"allow": [{"at": "/x", "values": []}]}), &json!({})),
            Some(Violation::Missing)
        );
        let hidden = json!({"deny": [{"at": "/*/x", "values": [1]}]});
        assert_eq!(violation(&hidden, &json!([])), None);
        assert_eq!(
            violation(&hidden, &json!([{}, {"x": 1}])),
            Some(Violation::Denied)
        );
        let hidden = json!({"limits": [{"at": "/*/x", "max": 1, "optional": true}]});
        assert_eq!(
            violation(&hidden, &json!([{}, {"x": 2}])),
            Some(Violation::OutOfRange)
        );
    }
}
