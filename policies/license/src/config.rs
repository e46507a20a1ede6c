//! The configuration.

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use ed25519_compact::PublicKey;
use postern_sdk::{Request, Template};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(try_from = "RawConfig")]
pub(crate) struct Config {
    pub(crate) key: PublicKey,
    pub(crate) source: Source,
    pub(crate) features: Vec<FeatureRule>,
    pub(crate) leeway_seconds: u32,
    pub(crate) require_expiry: bool,
    pub(crate) cache_ms: u32,
}

/// The source of the licence.
pub(crate) enum Source {
    /// The operator's licence, from `LICENSE_KEY`.
    Config(String),
    /// The client's licence, in this request header.
    Header(String),
}

/// The feature required by matching requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureRule {
    methods: Option<Vec<String>>,
    path: Template,
    pub(crate) feature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    public_key: Ed25519Key,
    license: Option<String>,
    header: Option<String>,
    #[serde(default)]
    features: Vec<FeatureRule>,
    #[serde(default = "default_leeway")]
    leeway_seconds: u32,
    #[serde(default = "default_true")]
    require_expiry: bool,
    #[serde(default)]
    cache_ms: u32,
}

fn default_leeway() -> u32 {
    60
}

fn default_true() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Ed25519Key(PublicKey);

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
        let source = match (raw.license, raw.header) {
            (Some(license), None) => Source::Config(license),
            (None, Some(header)) => Source::Header(header.to_ascii_lowercase()),
            _ => return Err("set either `license` or `header`, not both"),
        };
        Ok(Self {
            key: raw.public_key.0,
            source,
            features: raw.features,
            leeway_seconds: raw.leeway_seconds,
            require_expiry: raw.require_expiry,
            cache_ms: raw.cache_ms,
        })
    }
}

impl FeatureRule {
    pub(crate) fn applies_to(&self, request: &Request) -> bool {
        let method_fits = match &self.methods {
            None => true,
            Some(methods) => methods.contains(&request.method),
        };
        method_fits && self.path.matches(&request.path)
    }
}
