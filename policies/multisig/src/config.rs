//! The configuration.

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use ed25519_compact::PublicKey;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(try_from = "RawConfig")]
pub(crate) struct Config {
    pub(crate) required: usize,
    pub(crate) keys: Vec<ApproverKey>,
    pub(crate) audience: String,
    pub(crate) max_lifetime_seconds: u64,
    pub(crate) when: Option<Condition>,
}

/// An approver's key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproverKey {
    pub(crate) id: String,
    #[serde(rename = "public_key")]
    pub(crate) public: Ed25519Key,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Ed25519Key(pub(crate) PublicKey);

/// Limits approvals to bodies with one of `values` at the JSON pointer `at`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) at: String,
    pub(crate) values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    required: usize,
    keys: Vec<ApproverKey>,
    #[serde(default)]
    audience: String,
    #[serde(default = "default_lifetime")]
    max_lifetime_seconds: u64,
    when: Option<Condition>,
}

fn default_lifetime() -> u64 {
    3600
}

impl TryFrom<String> for Ed25519Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let key = if text.contains("-----BEGIN") {
            PublicKey::from_pem(&text).ok()
        } else {
            let bytes = Base64UrlSafeNoPadding::decode_to_vec(&text, None).ok();
            bytes.and_then(|bytes| PublicKey::from_slice(&bytes).ok())
        };
        key.map(Self)
            .ok_or("an Ed25519 public key must be 32 bytes in base64url, or PEM")
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = &'static str;

    fn try_from(raw: RawConfig) -> Result<Self, Self::Error> {
        let keys = &raw.keys;
        if raw.required == 0 || raw.required > keys.len() {
            return Err("`required` must be from 1 to the number of `keys`");
        }
        let is_valid = |id: &str| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
        };
        if !keys.iter().all(|key| is_valid(&key.id)) {
            return Err("the `id` of a key must be letters, digits, `-`, `_`, `.` and `@`");
        }
        for (at, key) in keys.iter().enumerate() {
            // A duplicate would let one approver count twice, or two approvers as one.
            let same = |other: &ApproverKey| other.id == key.id || other.public.0 == key.public.0;
            if keys.iter().take(at).any(same) {
                return Err("two `keys` have the same `id` or the same `public_key`");
            }
        }
        if raw.audience.chars().any(char::is_control) {
            return Err("`audience` must not contain control characters");
        }
        if raw
            .when
            .as_ref()
            .is_some_and(|when| !when.at.starts_with('/') || when.values.is_empty())
        {
            return Err("`when` needs a JSON pointer `at` that begins with `/`, and `values`");
        }
        let RawConfig {
            required,
            keys,
            audience,
            max_lifetime_seconds,
            when,
        } = raw;
        Ok(Self {
            required,
            keys,
            audience,
            max_lifetime_seconds,
            when,
        })
    }
}
