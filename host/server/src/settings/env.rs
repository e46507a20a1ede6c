//! What the environment says.

use postern_config::{ConfigErrors, NOT_A_VARIABLE, SecretRef, is_variable_name};
use postern_policy::Digest;
use secrecy::SecretString;

/// The shortest token that is accepted, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// Looks up variables, and notes what is wrong with them.
pub(super) struct Variables<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// The value of a variable; an empty one is none.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The secret that settings name.
    pub(super) fn secret(&self, at: &str, named: &SecretRef, errors: &mut ConfigErrors) -> Option<String> {
        let at = format!("{at}.env");
        if !is_variable_name(&named.env) {
            errors.add(at, NOT_A_VARIABLE);
            return None;
        }
        let value = self.value(&named.env);
        if value.is_none() {
            errors.add(at, format!("{} is not set", named.env));
        }
        value
    }

    /// The secret in a variable of this name, if it is set.
    pub(super) fn secret_of(&self, name: &str) -> Option<SecretString> {
        self.value(name).map(SecretString::from)
    }

    /// The digest of the token that settings name.
    pub(super) fn token(&self, at: &str, named: &SecretRef, errors: &mut ConfigErrors) -> Option<Digest> {
        let token = self.secret(at, named, errors)?;
        if token.len() < SHORTEST_TOKEN {
            let message =
                format!("is shorter than {SHORTEST_TOKEN} bytes; `openssl rand -hex 32` prints a good one");
            errors.add(at, message);
        }
        Some(Digest::of(token.as_bytes()))
    }

    /// A switch that the environment can turn either way.
    pub(super) fn switch(&self, name: &str, written: bool, errors: &mut ConfigErrors) -> bool {
        match self.value(name).as_deref() {
            None => written,
            Some("1" | "true") => true,
            Some("0" | "false") => false,
            // Taken for off, a misspelt `TAMPER_STRICT` would protect nothing.
            Some(_) => {
                errors.add(
                    "",
                    format!("the environment's {name} is neither true nor false (1 nor 0)"),
                );
                true
            }
        }
    }
}
