//! The hash chain: each event holds the hash of the one before it.
//!
//! The hash covers the canonical form (RFC 8785) of a [`Record`]: the event, its sequence number, the time it was recorded,
//! and `prev_hash`. The log stores exactly these bytes, so the chain can be followed with a JSON parser and SHA-256:
//!
//! ```text
//! hash[n] = SHA-256(payload[n])        payload[n].prev_hash = hash[n - 1]        payload[n].seq = n
//! ```
//!
//! The first event has the sequence number 1 and a `prev_hash` of zeroes.

use std::fmt;

use ct_codecs::{Decoder as _, Encoder as _, Hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{Event, Time};

/// A SHA-256 digest; as text, 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The `prev_hash` of the first event.
pub const GENESIS: Hash = Hash([0; 32]);

impl Hash {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Parses 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let read = Hex::decode(&mut bytes, text, None).ok()?.len();
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        (read == bytes.len() && lower).then_some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        f.write_str(Hex::encode_to_str(&mut text, self.0).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Hash;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                Hash::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The end of a log: its number of events, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of events: the sequence number of the last one.
    pub size: u64,
    /// The hash of the last event.
    pub hash: Hash,
    /// When the last event was recorded.
    pub recorded: Time,
}

impl Head {
    /// The head of an empty log.
    pub const EMPTY: Self = Self {
        size: 0,
        hash: GENESIS,
        recorded: Time::EPOCH,
    };
}

/// An event with its position in the chain: the input of the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// The hash of the previous event.
    pub prev_hash: Hash,
    /// When the event was recorded, by the host's clock; never before the previous event.
    pub recorded: Time,
    /// The sequence number, from 1.
    pub seq: u64,
}

/// An event as a store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The sequence number, from 1.
    pub seq: u64,
    /// The id of the event.
    pub id: Uuid,
    /// The canonical form of the [`Record`].
    pub payload: String,
    /// The digest of `payload`.
    pub hash: Hash,
}
