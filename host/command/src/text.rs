//! Formats text for terminals, shells and files.

use std::fmt::Write as _;

/// Escapes control characters except line feeds, so that text from a token or a file cannot control the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut safe, c| {
            if c.is_control() && c != '\n' {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
            safe
        })
}

/// Quotes the text as one word for a POSIX shell.
#[must_use]
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// `1 rule`, `2 rules`.
#[must_use]
pub fn counted(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_word_for_the_shell() {
        for (text, quoted) in [
            ("a b", "'a b'"),
            ("it's $HOME `x`", r"'it'\''s $HOME `x`'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quoted(text), quoted);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\tc"), r"a\u{1b}[2Jb\tc");
    }

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!(counted(1, "key", "keys"), "1 key");
        assert_eq!(counted(0, "key", "keys"), "0 keys");
        assert_eq!(hex(&[0, 255]), "00ff");
    }
}
