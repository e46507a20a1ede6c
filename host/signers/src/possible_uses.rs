//! What a payload could be taken for by the most lenient parser.
//!
//! An Ed25519 signature does not say what it was made for. A caller that chooses the payload could have something signed
//! that another program takes for a checkpoint, a rotation statement or a manifest. So the exact form of these does not
//! matter: a payload is classified by whether a program with any C2SP library, or a lenient JSON parser, could take it for
//! one.

use crate::{Use, Uses};

/// Length of the message of a manifest signature, in bytes: a SHA-256.
const DIGEST_LEN: usize = 32;
/// Number of Base64 digits of a 32-byte root hash, without padding.
const ROOT_DIGITS: usize = 43;
/// Start of the signed message of a policy manifest, in any version.
const POLICY_MANIFEST: &str = "postern policy manifest v";
/// Starts of the first line of C2SP messages that contain a checkpoint: cosignatures and subtrees.
const COSIGNED: [&str; 3] = ["cosignature/", "subtree/", "mtc-subtree/"];
/// Members of a rotation statement.
const STATEMENT_MEMBERS: [&str; 3] = ["old", "new", "new_key"];

/// The uses other than [`Use::Payload`] that these bytes could be taken for.
#[must_use]
pub fn possible_uses(payload: &[u8]) -> Uses {
    let mut uses = Uses::NONE;
    if payload.len() == DIGEST_LEN {
        uses = uses.with(Use::Manifest.into());
    }
    let text = text(payload);
    let words: Vec<&str> = text.split_whitespace().take(4).collect();
    if words.join(" ").to_lowercase().starts_with(POLICY_MANIFEST) {
        uses = uses.with(Use::Manifest.into());
    }
    if is_checkpoint(&text) {
        uses = uses.with(Use::Checkpoint.into());
    }
    if is_statement(&text) {
        uses = uses.with(Use::Rotation.into());
    }
    uses
}

/// The first line as a lenient parser finds it: the origin, if the payload is a checkpoint.
#[must_use]
pub fn first_line(payload: &[u8]) -> String {
    lines(&text(payload)).next().unwrap_or_default().to_owned()
}

impl Uses {
    /// Whether a key with these uses may sign the message. A message that could be taken for something other than a payload
    /// needs that use; 32 bytes may be the digest of a payload as well as of a manifest.
    #[must_use]
    pub fn permits(self, message: &[u8]) -> bool {
        let uses = possible_uses(message);
        if uses.is_empty() {
            return self.contains(Use::Payload);
        }
        let digest = message.len() == DIGEST_LEN && uses == Use::Manifest.into();
        self.contains_all(uses) || (digest && self.contains(Use::Payload))
    }
}

/// The payload as text. JSON parsers detect UTF-16 and UTF-32, so zero bytes are dropped.
fn text(payload: &[u8]) -> String {
    let bytes: Vec<u8> = payload.iter().copied().filter(|byte| *byte != 0).collect();
    let byte_order_marks: &[char] = &['\u{feff}', '\u{fffd}'];
    String::from_utf8_lossy(&bytes)
        .trim_start_matches(byte_order_marks)
        .to_owned()
}

/// The non-blank lines, trimmed, split at any line break.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    })
    .map(str::trim)
    .filter(|line| !line.is_empty())
}

/// An origin, a number, and Base64 or nothing, whatever follows; or a cosigned message. Not every parser checks the length
/// of the root hash.
fn is_checkpoint(text: &str) -> bool {
    let mut lines = lines(text);
    let origin = lines.next().unwrap_or_default();
    if COSIGNED.iter().any(|first| origin.starts_with(first)) {
        return true;
    }
    let (size, root) = (lines.next(), lines.next());
    size.is_some_and(is_number) && root.is_none_or(is_base64_root)
}

fn is_number(line: &str) -> bool {
    let digits = line.trim_start_matches(['+', '-']);
    digits.chars().any(char::is_numeric) && digits.chars().all(|c| c.is_numeric() || c == '_')
}

/// Lenient Base64 decoders skip characters that are not digits.
fn is_base64_root(line: &str) -> bool {
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || b"+/-_".contains(b);
    let printed = || line.bytes().filter(u8::is_ascii_graphic);
    printed().all(|b| is_digit(&b) || b == b'=') || printed().filter(is_digit).count() >= ROOT_DIGITS
}

/// Whether the text contains all member names of a rotation statement in a form that some JSON or YAML parser accepts:
/// escaped, in any case, with or without quotes, among other members, more than once.
fn is_statement(text: &str) -> bool {
    let plain = unescaped(text).to_lowercase();
    let words = plain.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let mut found = [false; STATEMENT_MEMBERS.len()];
    for word in words {
        for (name, found) in STATEMENT_MEMBERS.iter().zip(&mut found) {
            *found |= word == *name;
        }
    }
    found.iter().all(|found| *found)
}

/// Decodes `\uXXXX`, `\u{X}` and `\xXX` escapes.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let (digits, remainder) = match after.as_bytes().first() {
            Some(b'u') if after.as_bytes().get(1) == Some(&b'{') => after
                .get(2..)
                .and_then(|inner| inner.split_once('}'))
                .unwrap_or(("", after)),
            Some(b'u' | b'U') => (
                after.get(1..5).unwrap_or_default(),
                after.get(5..).unwrap_or_default(),
            ),
            Some(b'x') => (
                after.get(1..3).unwrap_or_default(),
                after.get(3..).unwrap_or_default(),
            ),
            _ => ("", after),
        };
        match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
            Some(c) => {
                plain.push(c);
                rest = remainder;
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";

    #[test]
    fn whatever_a_lenient_parser_takes_for_a_checkpoint_is_one() {
        let root = ROOT;
        let url_safe = root.replace('+', "-").replace('/', "_");
        for text in [
            format!("postern/audit\n7\n{root}\ntime 2026-01-01T00:00:00.000000Z\n"),
            format!("postern/audit\n7\n{root}\n"),
            format!("postern/audit\n7\n{root}"),
            format!("postern/audit\n7\n{root}\ntime 2026-01-01T00:00:00+00:00\n"),
            format!("postern/audit\n7\n{root}\ntime 2026-01-01T00:00:00Z\nextension: x\n"),
            format!("postern/audit\r\n7\r\n{root}\r\n"),
            format!("\u{feff}\n\npostern/audit\n 007 \n{root}\n\n\u{2014} kernel AAAA\n"),
            format!("an origin of two words\n+7\n{url_safe}\n"),
            format!("postern/audit\n7\n{}\n", root.trim_end_matches('=')),
            format!("cosignature/v1\ntime 1700000000\npostern/audit\n7\n{root}\n"),
            "cosignature/v1\n".to_owned(),
            "mtc-subtree/v1\n".to_owned(),
            "postern/audit\n70\n".to_owned(),
            "postern/audit\n7\nAAAA\n".to_owned(),
            format!("postern/audit\n7\n{}\n", root.replacen("a", "a\r", 1)),
        ] {
            assert_eq!(possible_uses(text.as_bytes()), Use::Checkpoint.into(), "{text:?}");
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            if text.is_ascii() {
                assert_eq!(
                    possible_uses(&utf16),
                    Use::Checkpoint.into(),
                    "{text:?} in UTF-16"
                );
            }
        }
    }

    #[test]
    fn whatever_a_lenient_parser_takes_for_a_rotation_statement_is_one() {
        for text in [
            r#"{"new":"b","new_key":"ed25519:x","old":"a","time":"2026-01-01T00:00:00Z"}"#,
            r#"{"new":"b","new_key":"ed25519:x","old":"a","time":"2026-01-01T00:00:00Z","more":1}"#,
            r#"{"old":"z","new":"b","new_key":"ed25519:x","old":"a"}"#,
            r#"{"\u006eew":"b","new\u005fkey":"ed25519:x","o\u{6c}d":"a"}"#,
            r#"{'New':'b',"NEW_KEY":'ed25519:x',Old:"a",} // JSON5"#,
            "old: a\nnew: b\nnew_key: ed25519:x\n",
            r#" [{"new":"b","new_key":"ed25519:x","old":"a"}] trailing"#,
        ] {
            assert_eq!(possible_uses(text.as_bytes()), Use::Rotation.into(), "{text}");
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            assert_eq!(possible_uses(&utf16), Use::Rotation.into(), "{text} in UTF-16");
        }
    }

    #[test]
    fn other_payloads_have_no_possible_use() {
        for text in [
            "",
            "hello",
            "GET\n/orders/7\n1700000000\nnonce\n",
            "one\n7\ntwo, and more\n",
            r#"{"old": "a", "new": "b"}"#,
            r#"{"order": 7, "new_keys": ["a"], "older": "b", "newer": "c"}"#,
            "postern tests its signing proxy; this authorises nothing",
            "\\",
            "\\u12",
            "\\u{zz",
        ] {
            assert!(possible_uses(text.as_bytes()).is_empty(), "{text:?}");
            assert!(Uses::ALL.permits(text.as_bytes()), "{text:?}");
            assert!(!Uses::from(Use::Checkpoint).permits(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_key_may_sign_messages_of_its_uses_only() {
        let checkpoint = format!("postern/audit\n7\n{ROOT}\n");
        let statement = r#"{"new":"b","new_key":"ed25519:x","old":"a"}"#;
        let modules = "postern policy manifest v1\n{}";
        for (message, uses) in [
            ("hello", &[Use::Payload][..]),
            (&checkpoint, &[Use::Checkpoint]),
            (statement, &[Use::Rotation]),
            (modules, &[Use::Manifest]),
            ("thirty-two bytes, as a digest is", &[Use::Payload, Use::Manifest]),
        ] {
            for key_use in Use::ALL {
                let permitted = Uses::from(key_use).permits(message.as_bytes());
                assert_eq!(permitted, uses.contains(&key_use), "{key_use} {message}");
            }
            assert!(Uses::ALL.permits(message.as_bytes()), "{message}");
        }
        assert_eq!(
            first_line(b"\xef\xbb\xbf\r\n postern/audit \r\n7"),
            "postern/audit"
        );
    }
}
