//! Reading a payload: what the chain needs of it, and that it is the canonical form of a record.
//!
//! Two readers stand here. [`thorough`] says what a record is: it is read into [`Record`] and written again by the
//! library that knows RFC 8785, and must come out as it went in. [`quick`] knows only the plainest of canonical
//! forms, allocates nothing, and leaves all else to the thorough one; so what it accepts the other accepts too.

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

use crate::{Decision, Hash, Kind, Record, Time};

/// What the chain needs of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) prev_hash: Hash,
    pub(crate) recorded: Time,
    pub(crate) seq: u64,
}

/// Reads a payload; nothing, if it is not the canonical form of a record.
pub(crate) fn read(payload: &[u8]) -> Option<Facts> {
    let payload = std::str::from_utf8(payload).ok()?;
    quick(payload).or_else(|| thorough(payload))
}

fn thorough(payload: &str) -> Option<Facts> {
    let record: Record = serde_json::from_str(payload).ok()?;
    let canonical = serde_json_canonicalizer::to_string(&record).ok()?;
    (canonical == payload).then_some(Facts {
        id: record.event.id,
        kind: record.event.kind,
        prev_hash: record.prev_hash,
        recorded: record.recorded,
        seq: record.seq,
    })
}

/// The fields in the one order that the canonical form has them in.
fn quick(payload: &str) -> Option<Facts> {
    let mut at = Cursor::new(payload)?;
    at.optional("decision", Cursor::name::<Decision>)?;
    at.optional("detail", Cursor::flat)?;
    at.optional("gateway", Cursor::text)?;
    let id = at.required("id", Cursor::id)?;
    let kind = at.required("kind", Cursor::name::<Kind>)?;
    at.optional("latency_us", Cursor::number)?;
    for name in ["method", "path", "policy", "policy_digest"] {
        at.optional(name, Cursor::text)?;
    }
    let prev_hash = at.required("prev_hash", Cursor::hash)?;
    at.optional("reason", Cursor::text)?;
    let recorded = at.required("recorded", Cursor::time)?;
    at.optional("request_id", Cursor::text)?;
    at.optional("rule", Cursor::text)?;
    let seq = at.required("seq", Cursor::number)?;
    at.optional("signer_id", Cursor::text)?;
    at.optional("status", Cursor::status)?;
    at.optional("subject", Cursor::text)?;
    at.optional("tenant", Cursor::text)?;
    at.required("time", Cursor::time)?;
    (at.rest == b"}").then_some(Facts {
        id,
        kind,
        prev_hash,
        recorded,
        seq,
    })
}

/// Walks through a canonical object. `None` means: not the plainest form.
struct Cursor<'a> {
    rest: &'a [u8],
    first: bool,
}

impl<'a> Cursor<'a> {
    fn new(object: &'a str) -> Option<Self> {
        let rest = object.as_bytes().strip_prefix(b"{")?;
        Some(Self { rest, first: true })
    }

    /// Whether the next field has this name; if so, its value is next.
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

    /// A text in which nothing is escaped.
    fn text(&mut self) -> Option<&'a str> {
        self.take(b"\"")?;
        let ends = |b: &u8| *b == b'"' || *b == b'\\' || *b < b' ';
        let length = self.rest.iter().position(ends)?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\"")?;
        std::str::from_utf8(text).ok()
    }

    /// A whole number that JSON's doubles hold exactly.
    fn number(&mut self) -> Option<u64> {
        let length = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(length)?;
        let plain = (1..=15).contains(&length) && (length == 1 || digits.first() != Some(&b'0'));
        // No fraction and no exponent.
        if !plain || matches!(rest.first(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.rest = rest;
        Some(digits.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0')))
    }

    fn status(&mut self) -> Option<u16> {
        self.number()?.try_into().ok()
    }

    fn name<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let name: StrDeserializer<'_, Error> = self.text()?.into_deserializer();
        T::deserialize(name).ok()
    }

    fn hash(&mut self) -> Option<Hash> {
        Hash::parse(self.text()?)
    }

    fn id(&mut self) -> Option<Uuid> {
        let text = self.text()?;
        let canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        canonical.then(|| Uuid::try_parse(text).ok())?
    }

    fn time(&mut self) -> Option<Time> {
        let text = self.text()?;
        // Microseconds, UTC by its letter; a leap second would be read as the one before.
        let bytes = text.as_bytes();
        let canonical = text.len() == 27
            && bytes.get(19) == Some(&b'.')
            && bytes.ends_with(b"Z")
            && bytes.get(17) != Some(&b'6');
        canonical.then(|| Time::parse(text))?
    }

    /// An object of texts, numbers and literals, which has at least one field.
    fn flat(&mut self) -> Option<()> {
        self.take(b"{")?;
        let mut last: Option<&str> = None;
        loop {
            let name = self.text()?;
            // Where all is ASCII, the order of bytes is that of UTF-16.
            if !name.is_ascii() || last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            self.take(b":")?;
            self.plain()?;
            if self.take(b",").is_none() {
                return self.take(b"}");
            }
        }
    }

    fn plain(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.text().map(drop),
            b't' => self.take(b"true"),
            b'f' => self.take(b"false"),
            b'n' => self.take(b"null"),
            _ => self.number().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Event, GENESIS};

    fn full() -> Record {
        let mut event = Event::new(Kind::Request, Time::from_micros(1_767_225_600_000_001));
        let text = |text: &str| Some(text.to_owned());
        event.decision = Some(Decision::Denied);
        event.gateway = text("edge-1");
        event.latency_us = Some(812);
        event.method = text("POST");
        event.path = text("/kernel/sign?dry");
        event.policy = text("rbac");
        event.policy_digest = text("sha256:00");
        event.reason = text("role_missing");
        event.request_id = text("3f0c");
        event.rule = text("sign");
        event.signer_id = text("kernel-1");
        event.status = Some(403);
        event.subject = text("ann");
        event.tenant = text("north");
        Record {
            event,
            prev_hash: GENESIS,
            recorded: Time::from_micros(1_767_225_600_000_002),
            seq: 1,
        }
    }

    fn canonical(record: &Record) -> String {
        serde_json_canonicalizer::to_string(record).unwrap()
    }

    #[test]
    fn plain_records_are_read_quickly() {
        let mut bare = full();
        bare.event = Event::new(Kind::Host, Time::EPOCH);
        let mut detailed = full();
        for (name, value) in [
            ("a", json!("b")),
            ("c", json!(7)),
            ("d", json!(null)),
            ("é", json!(true)),
        ] {
            detailed.event.detail.insert(name.to_owned(), value);
        }
        for (record, is_quick) in [(full(), true), (bare, true), (detailed.clone(), false)] {
            let payload = canonical(&record);
            assert_eq!(quick(&payload).is_some(), is_quick, "{payload}");
            assert_eq!(read(payload.as_bytes()), thorough(&payload));
            assert!(read(payload.as_bytes()).is_some(), "{payload}");
        }
        detailed.event.detail.remove("é");
        assert!(quick(&canonical(&detailed)).is_some());
    }

    #[test]
    fn what_is_no_canonical_record() {
        let good = canonical(&full());
        let swap = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        for bad in [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}{good}"),
            swap("\"seq\":1", "\"seq\": 1"),
            swap("\"seq\":1", "\"seq\":01"),
            swap("\"seq\":1", "\"seq\":1.0"),
            swap("\"seq\":1", "\"seq\":1e0"),
            swap("\"seq\":1", "\"seq\":-1"),
            swap("\"seq\":1", "\"seq\":\"1\""),
            swap("\"seq\":1,", ""),
            swap("\"seq\":1", "\"seq\":1,\"seq\":1"),
            swap("\"seq\":1", "\"seq\":1,\"sequel\":1"),
            swap("\"status\":403", "\"status\":70000"),
            swap("\"status\":403", "\"status\":null"),
            swap("\"rule\":\"sign\"", "\"rule\":\"\\u0073ign\""),
            swap("\"rule\":\"sign\"", "\"rule\":7"),
            swap("\"kind\":\"request\"", "\"kind\":\"requests\""),
            swap("\"decision\":\"denied\"", "\"decision\":\"Denied\""),
            swap(
                "{\"decision\":\"denied\",",
                "{\"detail\":{},\"decision\":\"denied\",",
            ),
            swap(
                "{\"decision\":\"denied\"",
                "{\"decision\":\"denied\",\"detail\":{}",
            ),
            swap(
                "{\"decision\":\"denied\"",
                "{\"decision\":\"denied\",\"detail\":{\"b\":1,\"a\":1}",
            ),
            swap(
                "{\"decision\":\"denied\"",
                "{\"decision\":\"denied\",\"detail\":{\"a\":1,\"a\":1}",
            ),
            swap(
                "{\"decision\":\"denied\"",
                "{\"decision\":\"denied\",\"detail\":{\"a\":1,}",
            ),
            swap("00.000002Z", "00.00000200Z"),
            swap("00.000002Z", "60.000002Z"),
            swap("00.000002Z", "00.000002+00:00"),
            swap("-01-01T", "-13-01T"),
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read(b"\xff"), None);
    }

    #[test]
    fn what_only_the_thorough_reader_takes() {
        for value in [
            json!([1, 2]),
            json!({"b": {"c": []}}),
            json!(-1),
            json!(0.1),
            json!(1e300),
            json!(2_u64.pow(60)),
            json!("a\"\\\n\u{1f600}"),
        ] {
            let mut record = full();
            record.event.detail.insert("x".to_owned(), value);
            record.event.subject = Some("zoë \"the\" \t".to_owned());
            let payload = canonical(&record);
            assert_eq!(quick(&payload), None);
            assert_eq!(
                read(payload.as_bytes()).map(|facts| facts.seq),
                Some(1),
                "{payload}"
            );
        }
    }

    proptest! {
        /// The quick reader takes nothing that the thorough one would not, and reads the same from it.
        #[test]
        fn quick_is_never_lenient(place in 0_usize..600, byte in prop::sample::select(&b"\"\\,:{}0123456789.eEZTaz_- \x00"[..]), insert in any::<bool>()) {
            let mut record = full();
            record.event.detail.insert("count".to_owned(), json!(12));
            record.event.detail.insert("name".to_owned(), json!("x"));
            let mut payload = canonical(&record).into_bytes();
            let place = place % payload.len();
            if insert {
                payload.insert(place, byte);
            } else {
                payload[place] = byte;
            }
            let payload = String::from_utf8(payload).unwrap();
            if let Some(facts) = quick(&payload) {
                prop_assert_eq!(Some(facts), thorough(&payload));
            }
        }
    }
}
