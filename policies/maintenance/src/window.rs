//! Maintenance windows, in UTC.

use std::time::UNIX_EPOCH;

use serde::Deserialize;

const MINUTE: u64 = 60 * 1000;
const DAY: u64 = 24 * 60 * MINUTE;
const WEEK: u64 = 7 * DAY;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawWindow")]
pub(crate) struct Window {
    schedule: Schedule,
    /// The `detail` of the denial.
    pub(crate) message: Option<String>,
}

/// All times and durations are in milliseconds.
#[derive(Debug, PartialEq)]
enum Schedule {
    /// From `from`, inclusive, until `until`, exclusive.
    Once { from: u64, until: u64 },
    /// Every week; `from` is relative to Monday 00:00.
    Weekly { from: u64, duration: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    from: Option<String>,
    until: Option<String>,
    weekly: Option<Weekly>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weekly {
    day: Day,
    /// Time of day, such as `02:30`.
    at: String,
    minutes: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Window {
    /// Milliseconds until the window ends, if it is open at `now`.
    pub(crate) fn remaining(&self, now: u64) -> Option<u64> {
        match self.schedule {
            Schedule::Once { from, until } => (from <= now)
                .then(|| until.checked_sub(now))?
                .filter(|remaining| *remaining > 0),
            Schedule::Weekly { from, duration } => {
                // 1970-01-01 was a Thursday.
                let now = (now % WEEK + 3 * DAY) % WEEK;
                let since = (now + WEEK - from) % WEEK;
                duration.checked_sub(since).filter(|remaining| *remaining > 0)
            }
        }
    }
}

impl TryFrom<RawWindow> for Window {
    type Error = &'static str;

    fn try_from(raw: RawWindow) -> Result<Self, Self::Error> {
        let schedule = match (raw.from, raw.until, raw.weekly) {
            (Some(from), Some(until), None) => once(&from, &until)?,
            (None, None, Some(weekly)) => every_week(&weekly)?,
            _ => return Err("a window needs either `from` and `until`, or `weekly`"),
        };
        Ok(Self {
            schedule,
            message: raw.message,
        })
    }
}

fn once(from: &str, until: &str) -> Result<Schedule, &'static str> {
    let timestamp = |text: &str| {
        let time = humantime::parse_rfc3339(text).ok()?;
        u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    };
    let malformed = "`from` and `until` must be times like 2026-03-01T02:00:00Z";
    let (from, until) = (
        timestamp(from).ok_or(malformed)?,
        timestamp(until).ok_or(malformed)?,
    );
    if from < until {
        Ok(Schedule::Once { from, until })
    } else {
        Err("`until` must be after `from`")
    }
}

fn every_week(weekly: &Weekly) -> Result<Schedule, &'static str> {
    let two_digits = |text: &str, below: u64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>()
            .ok()
            .filter(|number| digits && *number < below)
    };
    let (hour, minute) = weekly
        .at
        .split_once(':')
        .and_then(|(hour, minute)| Some((two_digits(hour, 24)?, two_digits(minute, 60)?)))
        .ok_or("`at` must be a time like 02:30")?;
    if !(1..=WEEK / MINUTE).contains(&weekly.minutes) {
        return Err("`minutes` must be from 1 to 10080, one week");
    }
    Ok(Schedule::Weekly {
        from: weekly.day as u64 * DAY + (hour * 60 + minute) * MINUTE,
        duration: weekly.minutes * MINUTE,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn remaining(window: &Value, now: &str) -> Option<u64> {
        let now = humantime::parse_rfc3339(now).unwrap();
        let window: Window = serde_json::from_value(window.clone()).unwrap();
        window.remaining(now.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
    }

    #[test]
    fn a_window_opens_once() {
        let window = json!({"from": "2026-03-01T02:00:00Z", "until": "2026-03-01T03:00:00.5Z"});
        for (now, expected) in [
            ("2026-03-01T01:59:59.999Z", None),
            ("2026-03-01T02:00:00Z", Some(3_600_500)),
            ("2026-03-01T03:00:00.499Z", Some(1)),
            ("2026-03-01T03:00:00.500Z", None),
            ("1970-01-01T00:00:00Z", None),
        ] {
            assert_eq!(remaining(&window, now), expected, "{now}");
        }
    }

    #[test]
    fn a_weekly_window_spans_midnight_and_the_end_of_the_week() {
        // 2026-03-01 is a Sunday.
        let window = json!({"weekly": {"day": "sunday", "at": "23:30", "minutes": 60}});
        for (now, expected) in [
            ("2026-03-01T23:29:59Z", None),
            ("2026-03-01T23:30:00Z", Some(60)),
            ("2026-03-02T00:15:00Z", Some(15)),
            ("2026-03-02T00:30:00Z", None),
            ("2026-03-08T23:45:00Z", Some(45)),
            ("2026-03-07T23:45:00Z", None),
        ] {
            assert_eq!(
                remaining(&window, now),
                expected.map(|minutes| minutes * MINUTE),
                "{now}"
            );
        }
        let thursday = json!({"weekly": {"day": "thursday", "at": "00:00", "minutes": 1}});
        assert_eq!(remaining(&thursday, "1970-01-01T00:00:00Z"), Some(MINUTE));
        let always = json!({"weekly": {"day": "monday", "at": "12:00", "minutes": 10080}});
        assert_eq!(remaining(&always, "2026-03-02T12:00:00Z"), Some(WEEK));
        assert_eq!(remaining(&always, "2026-03-02T11:59:59.999Z"), Some(1));
        let far: Window = serde_json::from_value(always).unwrap();
        assert!(far.remaining(u64::MAX).is_some());
    }

    #[test]
    fn an_invalid_window_is_rejected() {
        for (window, fault) in [
            (json!({}), "either"),
            (json!({"from": "2026-03-01T02:00:00Z"}), "either"),
            (json!({"from": "2026-03-01", "until": "2026-03-02"}), "times like"),
            (
                json!({"from": "2026-03-01T02:00:00+01:00", "until": "2026-03-01T03:00:00Z"}),
                "times like",
            ),
            (
                json!({"from": "2026-02-30T02:00:00Z", "until": "2026-03-01T03:00:00Z"}),
                "times like",
            ),
            (
                json!({"from": "2026-03-01T03:00:00Z", "until": "2026-03-01T03:00:00Z"}),
                "must be after",
            ),
            (
                json!({"weekly": {"day": "sun", "at": "02:00", "minutes": 5}}),
                "unknown variant",
            ),
            (
                json!({"weekly": {"day": "sunday", "at": "2:00", "minutes": 5}}),
                "like 02:30",
            ),
            (
                json!({"weekly": {"day": "sunday", "at": "24:00", "minutes": 5}}),
                "like 02:30",
            ),
            (
                json!({"weekly": {"day": "sunday", "at": "+2:00", "minutes": 5}}),
                "like 02:30",
            ),
            (
                json!({"weekly": {"day": "sunday", "at": "02:00", "minutes": 0}}),
                "from 1",
            ),
            (
                json!({"weekly": {"day": "sunday", "at": "02:00", "minutes": u64::MAX}}),
                "from 1",
            ),
        ] {
            let error = serde_json::from_value::<Window>(window.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(fault), "{window}: {error}");
        }
    }
}
