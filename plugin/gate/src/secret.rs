//! Secrets that cannot be printed, and the trait that looks them up.

use std::fmt;

/// A shared secret. It has no `Display`, and its `Debug` output does not contain it.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the secret's bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes. Not for logs or errors.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Looks up secrets by the name of their environment variable. Each is looked up once, when a gate is compiled.
pub trait Secrets {
    /// The secret in the variable `name`, if it is set.
    fn secret(&self, name: &str) -> Option<Secret>;
}

impl<F: Fn(&str) -> Option<Secret>> Secrets for F {
    fn secret(&self, name: &str) -> Option<Secret> {
        self(name)
    }
}
