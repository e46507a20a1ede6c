//! Timestamps and durations of the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `2027-01-01T00:00:00Z`, or seconds since the Unix epoch.
pub(crate) fn timestamp(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_rfc3339(text)
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .ok_or_else(|| "write 2027-01-01T00:00:00Z, or seconds since 1970".to_owned())
}

/// `90s`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("write 90s, 15m or 1h: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_or_unix_seconds() {
        for (text, seconds) in [
            ("1767225600", Some(1_767_225_600)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600)),
            ("tomorrow", None),
            ("-1", None),
        ] {
            assert_eq!(timestamp(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
