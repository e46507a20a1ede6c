//! References to secrets in environment variables.

use deserr::Deserr;

use crate::ConfigErrors;

/// A reference to a secret: the environment variable that holds it, never the secret itself.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SecretRef {
    /// The name of the variable.
    pub env: String,
}

/// The error for text that is not the name of a variable. It does not repeat the text.
pub const NOT_A_VARIABLE: &str = "is not the name of an environment variable; put the secret into the environment and \
                                  the variable's name here (the value is not printed: it may be the secret)";

/// Whether the text can be the name of an environment variable. If not, it may be a misplaced secret.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(allowed) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_names_are_recognised() {
        for (text, expected) in [
            ("A_1", true),
            ("_x", true),
            ("1A", false),
            ("", false),
            ("whsec+/=", false),
        ] {
            assert_eq!(is_variable_name(text), expected, "{text}");
        }
    }
}
