//! For which requests a cached decision is used: those that are equal in all parts that the policy lists.

use std::time::Duration;

use postern_config::HeaderName;
use sha2::{Digest as _, Sha256};

use super::Digest;
use crate::request::Request;

/// The longest time for which a decision is cached, so that a replaced policy takes effect within a minute.
const MAX_TTL: Duration = Duration::from_secs(60);

/// The most parts of a grant.
const MAX_PARTS: usize = 32;
/// The longest header name in a part, in bytes.
const MAX_NAME: usize = 128;

/// How long a decision may be cached, and for which requests it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ttl: Duration,
    /// Sorted, without duplicates.
    pub(crate) parts: Vec<Part>,
}

/// A part of a request that a decision can depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Method,
    Scheme,
    Authority,
    Path,
    Query,
    SourceAddress,
    Identity,
    /// All values of the header with this name, which is in lower case.
    Header(String),
}

impl Grant {
    /// `None` if the grant is not supported: an unknown part might be the one that the decision depends on.
    pub(crate) fn new<'a>(ttl_ms: f64, parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        if !ttl_ms.is_finite() || ttl_ms < 1.0 {
            return None;
        }
        // The cast saturates.
        let ttl = Duration::from_millis(ttl_ms as u64).min(MAX_TTL);
        let mut parts = parts
            .take(MAX_PARTS + 1)
            .map(Part::read)
            .collect::<Option<Vec<_>>>()?;
        if parts.len() > MAX_PARTS {
            return None;
        }
        parts.sort_unstable();
        parts.dedup();
        Some(Self { ttl, parts })
    }
}

impl Part {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "method" => Self::Method,
            "scheme" => Self::Scheme,
            "authority" => Self::Authority,
            "path" => Self::Path,
            "query" => Self::Query,
            "source-address" => Self::SourceAddress,
            "identity" => Self::Identity,
            _ => {
                let name = text.strip_prefix("header:").filter(|n| n.len() <= MAX_NAME)?;
                Self::Header(HeaderName::parse(name.to_owned()).ok()?.0)
            }
        })
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Method => text.push_str("method"),
            Self::Scheme => text.push_str("scheme"),
            Self::Authority => text.push_str("authority"),
            Self::Path => text.push_str("path"),
            Self::Query => text.push_str("query"),
            Self::SourceAddress => text.push_str("source-address"),
            Self::Identity => text.push_str("identity"),
            Self::Header(name) => {
                text.push_str("header:");
                text.push_str(name);
            }
        }
    }

    /// Joins a list into one text, which is never empty, and which [`list`](Self::list) parses. The name of a part
    /// contains no line feed.
    pub(super) fn join(parts: &[Self]) -> String {
        let mut text = String::from("parts\n");
        for part in parts {
            part.write(&mut text);
            text.push('\n');
        }
        text
    }

    pub(super) fn list(text: &[u8]) -> Option<Vec<Self>> {
        let text = std::str::from_utf8(text).ok()?;
        text.strip_prefix("parts\n")?.lines().map(Self::read).collect()
    }
}

/// The cache key, which is equal for two requests if, and only if, they are equal in module, rule and all of the
/// parts. The random `seed` keeps outsiders from choosing requests that share a slot of the cache. `identity` is the
/// caller as [`identity_json`](super::identity_json).
pub(crate) fn key(
    seed: &[u8; 16],
    module: &str,
    rule: &str,
    parts: &[Part],
    request: &Request<'_>,
    identity: Option<&str>,
) -> Digest {
    let mut hash = Hash(Sha256::new());
    hash.text(seed);
    hash.text(module.as_bytes());
    hash.text(rule.as_bytes());
    // The list itself, so that decisions with different lists have different keys.
    hash.text(Part::join(parts).as_bytes());
    for part in parts {
        match part {
            Part::Method => hash.values(request.values(":method")),
            Part::Scheme => hash.values(request.values(":scheme")),
            Part::Authority => hash.values(request.values(":authority")),
            Part::Path => hash.text(split(request.path()).0),
            Part::Query => hash.values(split(request.path()).1.into_iter()),
            Part::SourceAddress => hash.values(request.source_ip().into_iter().map(str::as_bytes)),
            Part::Identity => hash.values(identity.into_iter().map(str::as_bytes)),
            Part::Header(name) => hash.values(request.values(name)),
        }
    }
    hash.0.finalize().into()
}

/// Splits a request target into path and query.
fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = target.splitn(2, |byte| *byte == b'?');
    (halves.next().unwrap_or_default(), halves.next())
}

/// Hashes texts with their lengths, so that the input is unambiguous.
struct Hash(Sha256);

impl Hash {
    fn text(&mut self, text: &[u8]) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    /// Hashes any number of values. No value and an empty value have different hashes.
    fn values<'a>(&mut self, values: impl Iterator<Item = &'a [u8]>) {
        for value in values {
            self.0.update([1]);
            self.text(value);
        }
        self.0.update([0]);
    }
}

#[cfg(test)]
mod tests;
