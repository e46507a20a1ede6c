//! References to secrets.

use deserr::Deserr;

use crate::ConfigErrors;

/// The environment variable that holds a secret; never the secret itself.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SecretRef {
    /// The name of the variable.
    pub env: String,
}

/// The error for a text that is not the name of a variable. It omits the text, which may be the secret.
pub const NOT_A_VARIABLE: &str = "is not the name of an environment variable; put the secret into the environment and \
                                  the variable's name here (the value is not shown: it may be the secret)";

/// Whether `text` can name an environment variable. If not, it may be a misplaced secret.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(allowed) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_names() {
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
