//! A JSON parser that rejects duplicate members, at any depth. serde_json silently keeps the last of them, other
//! parsers the first (RFC 8259, section 4: the behaviour is unpredictable). A token could then mean one thing to the
//! gate and another to the upstream, and a configuration one thing to its author and another to the gate.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses an object into a type. An array of the members' values, which serde accepts too, is rejected.
///
/// # Errors
/// If the text is not JSON, not an object, has a duplicate member or does not fit the type.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(strict_object(text)?))
}

/// Parses any document.
///
/// # Errors
/// If the text is not JSON, or an object has a duplicate member.
pub fn document(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(|UniqueKeys(document)| document)
}

/// Parses an object.
///
/// # Errors
/// If the text is not JSON, not an object, or an object has a duplicate member.
pub fn strict_object(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    match document(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("not an object")),
    }
}

/// A document without duplicate members.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueKeys(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, UniqueKeys(value))) = members.next_entry::<String, _>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate member \"{name}\"")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicate_members_are_rejected_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"o":{"a":1,"b":2,"a":3}}"#,
            r#"{"l":[{"a":1,"a":2}]}"#,
            "[]",
            "1",
            r#"{"a":1}{"b":2}"#,
            r#"{"a":1e999}"#,
            "",
        ] {
            assert!(strict_object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_array_of_member_values_is_not_an_object() {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let read = |text: &str| object::<Named>(text.as_bytes()).map(|named| named.name);
        assert_eq!(read(r#"{"name": "a"}"#).unwrap(), "a");
        for text in [
            r#"["a"]"#,
            r#"{"name": "a", "name": "a"}"#,
            r#"{"name": 1}"#,
            "{}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn accepted_text_parses_as_in_serde_json(text in r#"\{("[ab]":(1|-2|0\.5|true|null|"x"|\[1,\{"a":2\}\])(,)?){0,3}\}"#) {
            if let Ok(members) = strict_object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(members), serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn no_input_panics(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = strict_object(&text);
        }
    }
}
