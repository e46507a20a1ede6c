//! Scalars: durations, sizes, timestamps, digests, header names.

use std::time::Duration;

use ct_codecs::{Decoder, Hex};
use deserr::Deserr;
use sha2::{Digest as _, Sha256};

use crate::ConfigErrors;

/// An invalid scalar; the message says what is accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScalarError(String);

/// A duration, written `250ms`, `10s` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, try_from(String) = HumanDuration::parse -> ScalarError)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    fn parse(text: String) -> Result<Self, ScalarError> {
        humantime::parse_duration(text.trim()).map(Self).map_err(|e| {
            ScalarError(format!(
                "\"{text}\" is not a duration such as 250ms, 10s or 24h: {e}"
            ))
        })
    }
}

/// A number of bytes, written `64KiB` or `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, try_from(String) = ByteSize::parse -> ScalarError)]
pub struct ByteSize(pub usize);

impl ByteSize {
    fn parse(text: String) -> Result<Self, ScalarError> {
        let size: bytesize::ByteSize = text
            .parse()
            .map_err(|e| ScalarError(format!("\"{text}\" is not a size such as 64KiB or 1MiB: {e}")))?;
        // The filter's VM has 32-bit addresses, whatever this machine has.
        u32::try_from(size.as_u64())
            .ok()
            .and_then(|size| usize::try_from(size).ok())
            .map(Self)
            .ok_or_else(|| ScalarError(format!("\"{text}\" is too large: it must be under 4GiB")))
    }
}

/// A list that restricts something, and may be left out. An empty list is an error: it is probably a template that
/// was not filled in, and it would mean "any".
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, try_from(Vec<String>) = NonEmptyList::parse -> ScalarError)]
pub struct NonEmptyList(Vec<String>);

impl NonEmptyList {
    fn parse(list: Vec<String>) -> Result<Self, ScalarError> {
        if list.is_empty() {
            return Err(ScalarError(
                "is empty, which would mean any; add an item, or leave it out".to_owned(),
            ));
        }
        Ok(Self(list))
    }
}

impl std::ops::Deref for NonEmptyList {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

/// A timestamp in UTC (RFC 3339), written `2027-01-01T00:00:00Z`, as the time since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, try_from(String) = Timestamp::parse -> ScalarError)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    fn parse(text: String) -> Result<Self, ScalarError> {
        let invalid = || ScalarError(format!("\"{text}\" is not a time such as 2027-01-01T00:00:00Z"));
        let time = humantime::parse_rfc3339(&text).map_err(|_| invalid())?;
        time.duration_since(std::time::UNIX_EPOCH)
            .map(Self)
            .map_err(|_| invalid())
    }
}

/// A SHA-256 digest written `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserr)]
#[deserr(error = ConfigErrors, try_from(String) = Digest::parse -> ScalarError)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digests of what an unset variable becomes in various languages, with and without a line feed: they belong to
    /// no key and no token.
    #[must_use]
    pub fn of_placeholders() -> Vec<Self> {
        const EMPTY: [&str; 8] = ["", " ", "null", "nil", "<nil>", "None", "undefined", "<no value>"];
        let digest = |text: String| Self(Sha256::digest(text).into());
        EMPTY
            .iter()
            .flat_map(|text| ["", "\n", "\r\n"].map(|end| digest(format!("{text}{end}"))))
            .collect()
    }

    fn parse(text: String) -> Result<Self, ScalarError> {
        // Without the text: it may be the key itself.
        let invalid = || {
            ScalarError(
                "not a digest: write sha256: and 64 hexadecimal digits; `postern key new` prints one".into(),
            )
        };
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let mut digest = [0; 32];
        let bytes = Hex::decode(&mut digest, hex, None).map_err(|_| invalid())?;
        if bytes.len() == 32 {
            Ok(Self(digest))
        } else {
            Err(invalid())
        }
    }
}

/// A header name, in lower case (RFC 9110, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserr)]
#[deserr(error = ConfigErrors, try_from(String) = HeaderName::parse -> ScalarError)]
pub struct HeaderName(pub String);

impl HeaderName {
    /// Parses a header name.
    ///
    /// # Errors
    /// If it is empty or not a token (RFC 9110, section 5.6.2).
    pub fn parse(text: String) -> Result<Self, ScalarError> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(token) {
            return Err(ScalarError(format!("\"{text}\" is not a header name")));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}
