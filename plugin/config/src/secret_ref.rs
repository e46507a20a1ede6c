//! Secrets, named by environment variables.

use deserr::Deserr;

use crate::ConfigErrors;

/// A secret, named by the environment variable that holds it. Never the secret itself.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SecretRef {
    /// The variable's name.
    pub env: String,
}

/// The error for a text in the place of a variable's name. It does not repeat the text.
pub const NOT_A_VARIABLE: &str = "is no name of an environment variable; put the secret into the environment and its \
                                  variable's name here (what stands here is not repeated: it may be the secret)";

/// Whether this can name an environment variable; if not, it may be a secret in the wrong place.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(plain) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        for (text, is) in [
            ("A_1", true),
            ("_x", true),
            ("1A", false),
            ("", false),
            ("whsec+/=", false),
        ] {
            assert_eq!(is_variable_name(text), is, "{text}");
        }
    }
}
