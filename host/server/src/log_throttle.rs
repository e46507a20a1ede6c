//! Limits repeated log lines: a failing policy fails for every request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// An entry and a code. Their number is limited: neither comes from a client.
type Key = (String, &'static str);

/// When the last line was written, and how many have been suppressed since.
type LastLine = (Instant, u64);

/// Lets one line per second through for each subject and kind, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    last: Mutex<HashMap<Key, LastLine>>,
}

impl LogThrottle {
    /// Whether to write a line now; if so, the number of lines suppressed since the last one.
    pub(crate) fn may_write(&self, subject: &str, kind: &'static str, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, suppressed)) = last.get_mut(&(subject.to_owned(), kind)) else {
            last.insert((subject.to_owned(), kind), (now, 0));
            return Some(0);
        };
        if now.saturating_duration_since(*at) < INTERVAL {
            *suppressed += 1;
            return None;
        }
        *at = now;
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_for_each_subject_and_kind() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(throttle.may_write("a", "trap", at(0)), Some(0));
        for ms in [1, 500, 999] {
            assert_eq!(throttle.may_write("a", "trap", at(ms)), None);
        }
        assert_eq!(throttle.may_write("a", "deadline", at(999)), Some(0));
        assert_eq!(throttle.may_write("b", "trap", at(999)), Some(0));
        assert_eq!(throttle.may_write("a", "trap", at(1000)), Some(3));
        assert_eq!(throttle.may_write("a", "trap", at(2000)), Some(0));
    }
}
