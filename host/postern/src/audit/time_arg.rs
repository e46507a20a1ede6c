//! Time arguments: a timestamp or an age.

use std::time::{Duration, SystemTime};

use postern_audit::Time;

use crate::time;

/// Parses `2026-01-01T00:00:00Z`, or `1h 30m` for that long ago.
pub(super) fn parse(text: &str) -> Result<Time, String> {
    at(text, SystemTime::now())
}

fn at(text: &str, now: SystemTime) -> Result<Time, String> {
    if let Some(time) = Time::parse(text) {
        return Ok(time);
    }
    let ago: Duration =
        time::duration(text).map_err(|_| "write 2026-01-01T00:00:00Z, or 1h for an hour ago".to_owned())?;
    now.checked_sub(ago)
        .map(Time::of)
        .ok_or_else(|| "is too long ago".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_timestamp_or_an_age() {
        let now = Time::parse("2026-01-02T00:00:00Z").unwrap().system();
        for (text, expected) in [
            ("2026-01-01T12:00:00Z", Some("2026-01-01T12:00:00.000000Z")),
            ("90s", Some("2026-01-01T23:58:30.000000Z")),
            ("1h 30m", Some("2026-01-01T22:30:00.000000Z")),
            ("yesterday", None),
            ("-1h", None),
        ] {
            let read = at(text, now).ok().map(|time| time.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
