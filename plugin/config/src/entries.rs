//! A section of named entries.
//!
//! deserr's own maps drop the errors of their entries together with the entries when errors are accumulated (0.6.4):
//! a misspelt field would silently remove its issuer. This one reports them.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Deref};

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Map, Value, ValueKind, ValuePointerRef};

use crate::ConfigErrors;

/// Entries by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<T>(BTreeMap<String, T>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Deref for Entries<T> {
    type Target = BTreeMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Deserr<ConfigErrors>> Deserr<ConfigErrors> for Entries<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let Value::Map(map) = value else {
            let error = ErrorKind::IncorrectValueKind {
                actual: value,
                accepted: &[ValueKind::Map],
            };
            let (ControlFlow::Continue(errors) | ControlFlow::Break(errors)) =
                ConfigErrors::error(None, error, location);
            return Err(errors);
        };
        let mut entries = BTreeMap::new();
        let mut errors = ConfigErrors::default();
        for (name, value) in map.into_iter() {
            match T::deserialize_from_value(value.into_value(), location.push_key(&name)) {
                Ok(entry) => {
                    entries.insert(name, entry);
                }
                Err(found) => errors.append(found),
            }
        }
        errors.or_ok(Self(entries))
    }
}
