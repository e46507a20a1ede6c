//! Timestamps in microseconds, formatted as RFC 3339 in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A timestamp in whole microseconds since the Unix epoch: `2026-01-01T00:00:00.000000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last timestamp that RFC 3339 can represent.
    const LAST: u64 = 253_402_300_799_999_999;

    /// Converts a time of the system clock, clamped to the years 1970 to 9999.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(
            u64::try_from(since.as_micros())
                .unwrap_or(u64::MAX)
                .min(Self::LAST),
        )
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Converts microseconds since the Unix epoch, clamped to the end of the year 9999.
    #[must_use]
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.min(Self::LAST))
    }

    /// Converts to the standard library's type.
    #[must_use]
    pub fn system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// Parses RFC 3339 in UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        humantime::parse_rfc3339(text).ok().map(Self::of)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(self.system()).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as 2026-01-01T00:00:00.000000Z")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_as_text() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_767_225_600_000_001, "2026-01-01T00:00:00.000001Z"),
            (u64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = Time::from_micros(micros);
            assert_eq!(time.to_string(), text);
            assert_eq!(Time::parse(text), Some(time));
        }
        for text in ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00+01:00"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
