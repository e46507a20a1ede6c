//! Configuration errors: all of them at once, each with its path and how to fix it.

use std::fmt;
use std::ops::ControlFlow;

use deserr::errors::helpers::did_you_mean;
use deserr::errors::json::value_kinds_description_json;
use deserr::{DeserializeError, ErrorKind, IntoValue, MergeWithError, Sequence, ValuePointerRef};

use crate::ScalarError;

/// The message for an unknown tag. deserr reports neither the tag nor the variants, so a schema with tagged types
/// replaces it with a more precise one by [`ConfigErrors::replace_message`].
pub const UNKNOWN_TAG: &str = "unknown kind";

/// One error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The path of the field, such as `rules[3].authenticate.any[0]`; empty for the whole document.
    pub path: String,
    /// What is wrong and how to fix it. Never contains the value of a secret.
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Every error of a configuration, in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigErrors(Vec<Issue>);

impl ConfigErrors {
    /// A single error about the document as a whole.
    #[must_use]
    pub fn document(message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add("", message);
        errors
    }

    /// Adds an error.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Issue {
            path: path.into(),
            message: message.into(),
        });
    }

    /// Appends the errors of another pass.
    pub fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Replaces every message that equals `generic` by `message`.
    #[must_use]
    pub fn replace_message(mut self, generic: &str, message: &str) -> Self {
        for issue in self.0.iter_mut().filter(|issue| issue.message == generic) {
            message.clone_into(&mut issue.message);
        }
        self
    }

    /// The errors, in the order in which they were found.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.0
    }

    /// Returns `value` if there are no errors.
    ///
    /// # Errors
    /// `self`, if it holds any error.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "{} errors", many.len())?;
                many.iter().try_for_each(|issue| write!(f, "\n  {issue}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

fn path_of(location: ValuePointerRef<'_>) -> String {
    match location {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Index { index, prev } => format!("{}[{index}]", path_of(*prev)),
        ValuePointerRef::Key { key, prev } => {
            let before = path_of(*prev);
            if before.is_empty() {
                key.to_owned()
            } else {
                format!("{before}.{key}")
            }
        }
    }
}

impl DeserializeError for ConfigErrors {
    fn error<V: IntoValue>(
        so_far: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let one_of = |names: &[&str]| names.join(", ");
        let message = match error {
            // Without the value: it may be a misplaced secret.
            ErrorKind::IncorrectValueKind { actual, accepted } => format!(
                "expected {}, found {}",
                value_kinds_description_json(accepted),
                value_kinds_description_json(&[actual.kind()])
            ),
            ErrorKind::MissingField { field } => format!("needs the field \"{field}\""),
            ErrorKind::UnknownKey { key, accepted } => format!(
                "unknown field \"{key}\": {}the fields are {}",
                did_you_mean(key, accepted),
                one_of(accepted)
            ),
            ErrorKind::UnknownValue { value, accepted } => format!(
                "unknown value \"{value}\": {}the values are {}",
                did_you_mean(value, accepted),
                one_of(accepted)
            ),
            ErrorKind::BadSequenceLen { actual, expected } => {
                format!("expected {expected} items, found {}", actual.len())
            }
            ErrorKind::Unexpected { msg } if msg == "Incorrect tag value" => UNKNOWN_TAG.to_owned(),
            ErrorKind::Unexpected { msg } => msg,
        };
        let mut errors = so_far.unwrap_or_default();
        errors.add(path_of(location), message);
        ControlFlow::Continue(errors)
    }
}

impl MergeWithError<Self> for ConfigErrors {
    fn merge(so_far: Option<Self>, other: Self, _at: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut errors = so_far.unwrap_or_default();
        errors.append(other);
        ControlFlow::Continue(errors)
    }
}

impl MergeWithError<ScalarError> for ConfigErrors {
    fn merge(so_far: Option<Self>, other: ScalarError, at: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut errors = so_far.unwrap_or_default();
        errors.add(path_of(at), other.to_string());
        ControlFlow::Continue(errors)
    }
}
