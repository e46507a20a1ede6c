//! The events of one worker that wait for the log.

use std::collections::VecDeque;
use std::time::Duration;

use super::Audit;

/// A call is cut off here, whatever its number of events: at this size, or by one event more.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The shortest and the longest time between two attempts.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Events on their way: each is kept until the host says that it is durable, and sent again with the same id until
/// then. One call is under way at a time. What there is no room for is lost, and counted.
#[derive(Debug)]
pub struct Queue {
    settings: Audit,
    /// In order; the first `in_flight` are in the call that is under way.
    events: VecDeque<QueuedEvent>,
    in_flight: usize,
    /// Calls that failed since the last that did not.
    failures: u32,
    /// No call is made before.
    not_before: Duration,
    /// Events lost of which the log was not told yet.
    lost: u64,
}

/// An event as it is sent, each time the same, and since when it waits.
#[derive(Debug)]
struct QueuedEvent {
    event: String,
    since: Duration,
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The body.
    pub body: String,
    /// How many events are in it.
    pub events: usize,
    /// Some were sent before.
    pub is_retry: bool,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Audit) -> Self {
        Self {
            settings,
            events: VecDeque::new(),
            in_flight: 0,
            failures: 0,
            not_before: Duration::ZERO,
            lost: 0,
        }
    }

    /// Lets an event wait. False if there was no room: it is lost.
    pub fn push(&mut self, event: String, now: Duration) -> bool {
        if self.events.len() >= self.settings.buffer {
            self.count_lost();
            return false;
        }
        self.events.push_back(QueuedEvent { event, since: now });
        true
    }

    /// Counts an event that could not even be made.
    pub fn count_lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Begins a call, if one is due and none is under way.
    pub fn begin(&mut self, now: Duration) -> Option<Batch> {
        if self.in_flight > 0 || now < self.not_before {
            return None;
        }
        let oldest = self.events.front()?;
        let due = self.failures > 0
            || self.events.len() >= self.settings.batch
            || now.saturating_sub(oldest.since) >= self.settings.flush;
        if !due {
            return None;
        }
        let mut size = 0;
        let fitting = self.events.iter().take_while(|waiting| {
            let fits = size < MAX_BATCH_BYTES;
            size += waiting.event.len();
            fits
        });
        self.in_flight = fitting.take(self.settings.batch).count();
        let events = self.events.iter().take(self.in_flight);
        Some(Batch {
            body: body(events.map(|waiting| waiting.event.as_str())),
            events: self.in_flight,
            is_retry: self.failures > 0,
        })
    }

    /// The call's events are durable. How many events were lost until there was room again, if any: the log is to be
    /// told of them next.
    pub fn acknowledge(&mut self) -> Option<u64> {
        self.events.drain(..self.in_flight.min(self.events.len()));
        self.in_flight = 0;
        self.failures = 0;
        self.not_before = Duration::ZERO;
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then_some(lost)
    }

    /// The call failed, or its answer does not say that the events are durable.
    pub fn fail(&mut self, now: Duration) {
        self.in_flight = 0;
        let wait = MIN_BACKOFF
            .saturating_mul(1 << self.failures.min(6))
            .min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(wait);
    }

    /// How many events were put into the call that is under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes over all that waits in another, whose call under way will not be heard of. How many there was no room for.
    pub fn append(&mut self, left: Self, now: Duration) -> u64 {
        self.lost = self.lost.saturating_add(left.lost);
        let before = self.lost;
        for waiting in left.events {
            self.push(waiting.event, now);
        }
        self.lost.saturating_sub(before)
    }
}

/// The body of a call.
pub(super) fn body<'a>(events: impl Iterator<Item = &'a str>) -> String {
    let mut body = String::from(r#"{"events":["#);
    for (index, event) in events.enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(event);
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn queue() -> Queue {
        Queue::new(Audit {
            flush: ms(200),
            buffer: 4,
            batch: 2,
        })
    }

    fn bodies(batch: Option<Batch>) -> Option<String> {
        batch.map(|batch| batch.body)
    }

    fn events(list: &[&str]) -> Option<String> {
        Some(format!("{{\"events\":[{}]}}", list.join(",")))
    }

    #[test]
    fn sent_when_old_enough_or_many_enough_one_call_at_a_time() {
        let mut queue = queue();
        assert_eq!(queue.begin(ms(0)), None, "nothing to tell");
        assert!(queue.push("1".into(), ms(0)));
        assert_eq!(queue.begin(ms(199)), None, "too young");
        assert!(queue.push("2".into(), ms(199)));
        assert!(queue.push("3".into(), ms(199)));
        assert_eq!(bodies(queue.begin(ms(199))), events(&["1", "2"]), "many enough");
        assert_eq!(queue.begin(ms(1000)), None, "a call is under way");
        assert_eq!(queue.acknowledge(), None);
        assert_eq!(queue.begin(ms(398)), None);
        assert_eq!(bodies(queue.begin(ms(399))), events(&["3"]), "old enough");
        assert_eq!(queue.acknowledge(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_the_same_later_and_later() {
        let mut queue = queue();
        assert!(queue.push("1".into(), ms(0)));
        let mut now = ms(200);
        let first = queue.begin(now).unwrap();
        assert_eq!((first.events, first.is_retry), (1, false));
        for wait in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            queue.fail(now);
            assert_eq!(queue.begin(now + ms(wait - 1)), None, "{wait}");
            now += ms(wait);
            let again = queue.begin(now).unwrap();
            assert_eq!((again.body.as_str(), again.is_retry), (first.body.as_str(), true));
        }
        queue.fail(now);
        assert!(queue.push("2".into(), now));
        let both = queue.begin(now + MAX_BACKOFF).unwrap();
        assert_eq!(Some(both.body), events(&["1", "2"]));
        assert_eq!(queue.acknowledge(), None);
        assert!(queue.is_empty());
        assert!(queue.push("3".into(), now));
        assert_eq!(queue.begin(now), None, "patient again");
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_told_once() {
        let mut queue = queue();
        for (event, kept) in [
            ("1", true),
            ("2", true),
            ("3", true),
            ("4", true),
            ("5", false),
            ("6", false),
        ] {
            assert_eq!(queue.push(event.into(), ms(0)), kept, "{event}");
        }
        assert!(queue.begin(ms(0)).is_some());
        queue.fail(ms(0));
        assert!(!queue.push("7".into(), ms(0)), "what was sent is not durable yet");
        assert_eq!(bodies(queue.begin(ms(100))), events(&["1", "2"]));
        assert_eq!(queue.acknowledge(), Some(3));
        assert!(queue.push("lost".into(), ms(100)));
        assert_eq!(bodies(queue.begin(ms(100))), events(&["3", "4"]));
        assert_eq!(queue.acknowledge(), None, "told once");
    }

    #[test]
    fn a_call_is_bounded_in_bytes() {
        let mut queue = Queue::new(Audit {
            flush: ms(0),
            buffer: 1000,
            batch: 1000,
        });
        let event = "x".repeat(4096);
        for _ in 0..1000 {
            assert!(queue.push(event.clone(), ms(0)));
        }
        let batch = queue.begin(ms(0)).unwrap();
        assert!(
            batch.body.len() <= MAX_BATCH_BYTES + event.len() + 100,
            "{}",
            batch.body.len()
        );
        assert_eq!(batch.events, 64);
    }

    #[test]
    fn another_takes_over_all() {
        let mut queue = queue();
        for event in ["1", "2", "3"] {
            assert!(queue.push(event.into(), ms(0)));
        }
        assert!(queue.begin(ms(0)).is_some());
        let mut next = self::queue();
        for event in ["a", "b"] {
            assert!(next.push(event.into(), ms(0)));
        }
        assert_eq!(next.append(queue, ms(10)), 1);
        assert_eq!(bodies(next.begin(ms(10))), events(&["a", "b"]));
        assert_eq!(next.acknowledge(), Some(1), "there was room for two of the three");
        assert_eq!(bodies(next.begin(ms(10))), events(&["1", "2"]));
    }
}
