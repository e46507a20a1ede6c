//! Parses payloads, and checks that they are the canonical form of a record.
//!
//! There are two parsers. [`parse_full`] defines what is valid: it parses the payload into a [`Record`] and serialises that
//! again with an RFC 8785 library, which must yield the same bytes. [`parse_fast`] supports only the simplest canonical
//! forms, allocates nothing, and leaves all others to the full parser. It accepts nothing that the full parser rejects.

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

use crate::{Decision, Hash, Kind, Record, Time};

/// The fields of a record that verification needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordFields {
    pub(crate) id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) prev_hash: Hash,
    pub(crate) recorded: Time,
    pub(crate) seq: u64,
}

/// Parses a payload. Returns `None` if it is not the canonical form of a record.
pub(crate) fn parse(payload: &[u8]) -> Option<RecordFields> {
    let payload = std::str::from_utf8(payload).ok()?;
    parse_fast(payload).or_else(|| parse_full(payload))
}

fn parse_full(payload: &str) -> Option<RecordFields> {
    let record: Record = serde_json::from_str(payload).ok()?;
    let canonical = serde_json_canonicalizer::to_string(&record).ok()?;
    (canonical == payload).then_some(RecordFields {
        id: record.event.id,
        kind: record.event.kind,
        prev_hash: record.prev_hash,
        recorded: record.recorded,
        seq: record.seq,
    })
}

/// Expects the fields in the order of the canonical form.
fn parse_fast(payload: &str) -> Option<RecordFields> {
    let mut at = Cursor::new(payload)?;
    at.optional("decision", Cursor::name::<Decision>)?;
    at.optional("detail", Cursor::flat_object)?;
    at.optional("gateway", Cursor::string)?;
    let id = at.required("id", Cursor::id)?;
    let kind = at.required("kind", Cursor::name::<Kind>)?;
    at.optional("latency_us", Cursor::integer)?;
    for name in ["method", "path", "policy", "policy_digest"] {
        at.optional(name, Cursor::string)?;
    }
    let prev_hash = at.required("prev_hash", Cursor::hash)?;
    at.optional("reason", Cursor::string)?;
    let recorded = at.required("recorded", Cursor::time)?;
    at.optional("request_id", Cursor::string)?;
    at.optional("rule", Cursor::string)?;
    let seq = at.required("seq", Cursor::integer)?;
    at.optional("signer_id", Cursor::string)?;
    at.optional("status", Cursor::status)?;
    at.optional("subject", Cursor::string)?;
    at.optional("tenant", Cursor::string)?;
    at.required("time", Cursor::time)?;
    (at.rest == b"}").then_some(RecordFields {
        id,
        kind,
        prev_hash,
        recorded,
        seq,
    })
}

/// A cursor in a canonical object. Its methods return `None` for anything but the simplest form.
struct Cursor<'a> {
    rest: &'a [u8],
    first: bool,
}

impl<'a> Cursor<'a> {
    fn new(object: &'a str) -> Option<Self> {
        let rest = object.as_bytes().strip_prefix(b"{")?;
        Some(Self { rest, first: true })
    }

    /// Consumes the name of the next field, if it is this one.
    fn field(&mut self, name: &str) -> bool {
        let after = if self.first {
            Some(self.rest)
        } else {
            self.rest.strip_prefix(b",")
        };
        let value = after
            .and_then(|rest| rest.strip_prefix(b"\""))
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .and_then(|rest| rest.strip_prefix(b"\":"));
        let Some(value) = value else { return false };
        (self.rest, self.first) = (value, false);
        true
    }

    fn required<T>(&mut self, name: &str, value: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        if self.field(name) { value(self) } else { None }
    }

    fn optional<T>(&mut self, name: &str, value: impl Fn(&mut Self) -> Option<T>) -> Option<()> {
        if self.field(name) {
            value(self).map(drop)
        } else {
            Some(())
        }
    }

    fn take(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b"\"")?;
        let ends = |b: &u8| *b == b'"' || *b == b'\\' || *b < b' ';
        let length = self.rest.iter().position(ends)?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\"")?;
        std::str::from_utf8(text).ok()
    }

    /// An integer of at most 15 digits, which a double represents exactly.
    fn integer(&mut self) -> Option<u64> {
        let length = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(length)?;
        let simple = (1..=15).contains(&length) && (length == 1 || digits.first() != Some(&b'0'));
        // No fraction and no exponent.
        if !simple || matches!(rest.first(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.rest = rest;
        Some(digits.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0')))
    }

    fn status(&mut self) -> Option<u16> {
        self.integer()?.try_into().ok()
    }

    fn name<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let name: StrDeserializer<'_, Error> = self.string()?.into_deserializer();
        T::deserialize(name).ok()
    }

    fn hash(&mut self) -> Option<Hash> {
        Hash::parse(self.string()?)
    }

    fn id(&mut self) -> Option<Uuid> {
        let text = self.string()?;
        let canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        canonical.then(|| Uuid::try_parse(text).ok())?
    }

    fn time(&mut self) -> Option<Time> {
        let text = self.string()?;
        // With microseconds and `Z`. Not a leap second, which would be parsed as the previous second.
        let bytes = text.as_bytes();
        let canonical = text.len() == 27
            && bytes.get(19) == Some(&b'.')
            && bytes.ends_with(b"Z")
            && bytes.get(17) != Some(&b'6');
        canonical.then(|| Time::parse(text))?
    }

    /// A non-empty object of strings, integers and literals.
    fn flat_object(&mut self) -> Option<()> {
        self.take(b"{")?;
        let mut last: Option<&str> = None;
        loop {
            let name = self.string()?;
            // For ASCII names, byte order is the UTF-16 order that RFC 8785 requires.
            if !name.is_ascii() || last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            self.take(b":")?;
            self.scalar()?;
            if self.take(b",").is_none() {
                return self.take(b"}");
            }
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.string().map(drop),
            b't' => self.take(b"true"),
            b'f' => self.take(b"false"),
            b'n' => self.take(b"null"),
            _ => self.integer().map(drop),
        }
    }
}

#[cfg(test)]
mod tests;
