//! A section of named entries.
//!
//! When errors are accumulated, deserr's own maps (0.6.4) drop an entry with errors together with its errors: a
//! misspelt field would silently remove its issuer. This type reports them.

use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Map, Value, ValueKind, ValuePointerRef};

use crate::ConfigErrors;

/// Entries in the order of their names. A sorted list: there are few, and each kind of map costs the filter
/// kilobytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<T>(Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Entries<T> {
    /// Whether the section is empty or missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The entry of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        let index = self.position(name).ok()?;
        self.0.get(index).map(|(_, entry)| entry)
    }

    /// Whether there is an entry of this name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// The names with their entries.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &T)> {
        self.0.iter().map(|(name, entry)| (name, entry))
    }

    /// The names.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The entries without their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|(_, entry)| entry)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl<T> IntoIterator for Entries<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
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
        let mut entries = Self::default();
        let mut errors = ConfigErrors::default();
        for (name, value) in map.into_iter() {
            match T::deserialize_from_value(value.into_value(), location.push_key(&name)) {
                // The parsers reject duplicate names.
                Ok(entry) => {
                    let (Ok(index) | Err(index)) = entries.position(&name);
                    entries.0.insert(index, (name, entry));
                }
                Err(found) => errors.append(found),
            }
        }
        errors.into_result(entries)
    }
}
