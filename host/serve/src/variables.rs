//! Secrets and switches from environment variables.

use postern_config::{ConfigErrors, NOT_A_VARIABLE, SecretRef, is_variable_name};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::TokenDigest;

/// The minimum length of a bearer token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// An environment variable of this process. A value that is not UTF-8 counts as unset.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Looks up environment variables and reports errors in them. An empty variable counts as unset.
pub struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables(..)")
    }
}

impl<'a> Variables<'a> {
    /// Creates a reader that looks up variables with this function.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(lookup)
    }

    /// The value of a variable that is not secret; `None` if unset.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The value of a secret variable; `None` if unset.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        // Copied into a string that is wiped when dropped; the first copy is wiped here.
        let value = (self.0)(name).map(Zeroizing::new);
        value
            .filter(|value| !value.is_empty())
            .map(|value| SecretString::from(value.as_str()))
    }

    /// The secret that the settings reference at `at`. An unset variable is an error.
    pub fn named_secret(
        &self,
        at: &str,
        named: &SecretRef,
        errors: &mut ConfigErrors,
    ) -> Option<SecretString> {
        let at = format!("{at}.env");
        if !is_variable_name(&named.env) {
            errors.add(at, NOT_A_VARIABLE);
            return None;
        }
        let value = self.secret(&named.env);
        if value.is_none() {
            errors.add(at, format!("{} is not set, or has no value", named.env));
        }
        value
    }

    /// The digest of the bearer token that the settings reference at `at`. A token that is short, or that no request can
    /// carry, is an error.
    pub fn named_token(&self, at: &str, named: &SecretRef, errors: &mut ConfigErrors) -> Option<TokenDigest> {
        let token = self.named_secret(at, named, errors)?;
        let token = token.expose_secret().as_bytes();
        if token.len() < MIN_TOKEN_BYTES {
            let message =
                format!("is shorter than {MIN_TOKEN_BYTES} bytes; `openssl rand -hex 32` prints a good one");
            errors.add(format!("{at}.env"), message);
            return None;
        }
        // A header's value has no white space around it, and no control characters: most often it is a line feed.
        if token.trim_ascii() != token || token.iter().any(u8::is_ascii_control) {
            let message = "has white space around it or control characters, which no request can carry; \
                           `printf %s` writes no line feed";
            errors.add(format!("{at}.env"), message);
            return None;
        }
        Some(TokenDigest::of(token))
    }

    /// A switch that the environment can override.
    pub fn switch(&self, name: &str, written: bool, errors: &mut ConfigErrors) -> bool {
        match self.value(name).as_deref() {
            None => written,
            Some("1" | "true") => true,
            Some("0" | "false") => false,
            // A misspelt `TAMPER_STRICT` must not disable protection.
            Some(_) => {
                errors.add(
                    "",
                    format!("{name} in the environment must be true or false (1 or 0)"),
                );
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("a-token-of-some-length".to_owned()),
            "SHORT" => Some("hunter2".to_owned()),
            "LINE" => Some("hunter2-of-some-length\n".to_owned()),
            "NUL" => Some("hunter2-of-\u{1}some-length".to_owned()),
            "EMPTY" => Some(String::new()),
            "ON" => Some("1".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn secrets_are_found_by_name_and_errors_do_not_repeat_them() {
        let variables = Variables::new(&lookup);
        for (env, expected) in [
            ("TOKEN", None),
            ("SHORT", Some("gate.token.env: is shorter than 16 bytes")),
            ("LINE", Some("gate.token.env: has white space around it")),
            ("NUL", Some("gate.token.env: has white space around it")),
            ("EMPTY", Some("gate.token.env: EMPTY is not set")),
            ("UNSET", Some("gate.token.env: UNSET is not set")),
            (
                "hunter-2",
                Some("gate.token.env: is not the name of an environment variable"),
            ),
        ] {
            let mut errors = ConfigErrors::default();
            let named = SecretRef { env: env.to_owned() };
            let token = variables.named_token("gate.token", &named, &mut errors);
            let text = errors.to_string();
            assert_eq!(token.is_some(), expected.is_none(), "{env}");
            assert!(
                expected.is_none_or(|expected| text.starts_with(expected)),
                "{text}"
            );
            assert!(!text.contains("hunter"), "{text}");
        }
    }

    #[test]
    fn a_switch_that_is_neither_on_nor_off_is_an_error_and_on() {
        let variables = Variables::new(&lookup);
        let mut errors = ConfigErrors::default();
        assert!(variables.switch("ON", false, &mut errors));
        assert!(!variables.switch("UNSET", false, &mut errors));
        assert!(errors.issues().is_empty());
        assert!(variables.switch("SHORT", false, &mut errors));
        assert_eq!(errors.issues().len(), 1);
    }
}
