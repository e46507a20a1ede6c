//! JSON in which no object names a member twice, at any depth. serde_json keeps the last of them without a word, others the
//! first (RFC 8259, section 4: what readers make of such objects is unpredictable): a token would be one thing here and
//! another behind the gate, a configuration one thing to its reader and another to the gate.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads an object into a type. One that is written as a list of its members, which serde takes too, is refused.
///
/// # Errors
/// If the text is not such an object, or not what the type wants.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(strict_object(text)?))
}

/// Reads any document.
///
/// # Errors
/// If the text is not JSON, or an object names a member twice.
pub fn document(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(|Unique(document)| document)
}

/// Reads an object.
///
/// # Errors
/// If the text is not such an object.
pub fn strict_object(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    match document(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("not an object")),
    }
}

/// A document without duplicates.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
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
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, _>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("\"{name}\" stands twice in one object")));
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
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
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
    fn a_list_of_its_members_is_no_object() {
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
        fn what_is_taken_reads_as_serde_json_reads_it(text in r#"\{("[ab]":(1|-2|0\.5|true|null|"x"|\[1,\{"a":2\}\])(,)?){0,3}\}"#) {
            if let Ok(members) = strict_object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(members), serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = strict_object(&text);
        }
    }
}
