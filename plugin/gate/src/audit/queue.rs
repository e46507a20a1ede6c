//! One worker's queue of events for the audit log.

use std::collections::VecDeque;
use std::time::Duration;

use super::Audit;

/// A batch ends once its events exceed this size, in bytes, whatever their number. The last event may exceed it.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The shortest and the longest time between two attempts to send a batch.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A queue of events. Each event stays in the queue until the host confirms that it is durable; until then it is sent
/// again with the same id. There is at most one batch in flight. Events that do not fit are lost, and counted.
#[derive(Debug)]
pub struct Queue {
    settings: Audit,
    /// In order; the first `in_flight` are in the batch in flight.
    events: VecDeque<QueuedEvent>,
    in_flight: usize,
    /// The number of consecutive failures.
    failures: u32,
    /// The earliest time of the next batch.
    not_before: Duration,
    /// The number of lost events that are not yet recorded in the log.
    lost: u64,
}

/// An encoded event, and the time at which it was queued.
#[derive(Debug)]
struct QueuedEvent {
    event: String,
    since: Duration,
}

/// A batch to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The request body, as JSON.
    pub body: String,
    /// The number of events in the body.
    pub events: usize,
    /// Whether the previous attempt failed, so that some of the events were sent before.
    pub is_retry: bool,
}

impl Queue {
    /// An empty queue.
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

    /// Queues an event. Returns false if the queue is full and the event is lost.
    pub fn push(&mut self, event: String, now: Duration) -> bool {
        if self.events.len() >= self.settings.buffer {
            self.count_lost();
            return false;
        }
        self.events.push_back(QueuedEvent { event, since: now });
        true
    }

    /// Counts an event that is lost because it could not be created.
    pub fn count_lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Returns the next batch, if one is due and none is in flight.
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
        let fitting = self.events.iter().take_while(|queued| {
            let fits = size < MAX_BATCH_BYTES;
            size += queued.event.len();
            fits
        });
        self.in_flight = fitting.take(self.settings.batch).count();
        let events = self.events.iter().take(self.in_flight);
        Some(Batch {
            body: body(events.map(|queued| queued.event.as_str())),
            events: self.in_flight,
            is_retry: self.failures > 0,
        })
    }

    /// Removes the batch in flight, whose events are durable. Returns the number of events lost since the last batch,
    /// if any; the caller records it as the next event.
    pub fn acknowledge(&mut self) -> Option<u64> {
        self.events.drain(..self.in_flight.min(self.events.len()));
        self.in_flight = 0;
        self.failures = 0;
        self.not_before = Duration::ZERO;
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then_some(lost)
    }

    /// Schedules a retry: the batch in flight failed, or its response does not confirm that the events are durable.
    pub fn fail(&mut self, now: Duration) {
        self.in_flight = 0;
        let wait = MIN_BACKOFF
            .saturating_mul(1 << self.failures.min(6))
            .min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(wait);
    }

    /// The number of events in the batch in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the queue has no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Appends all events of `other`, including its batch in flight, whose response cannot be received any more.
    /// Returns the number of events that did not fit.
    pub fn append(&mut self, other: Self, now: Duration) -> u64 {
        self.lost = self.lost.saturating_add(other.lost);
        let before = self.lost;
        for queued in other.events {
            self.push(queued.event, now);
        }
        self.lost.saturating_sub(before)
    }
}

/// Encodes a request body.
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
    fn a_batch_is_due_by_age_or_size_one_at_a_time() {
        let mut queue = queue();
        assert_eq!(queue.begin(ms(0)), None, "no events");
        assert!(queue.push("1".into(), ms(0)));
        assert_eq!(queue.begin(ms(199)), None, "too early");
        assert!(queue.push("2".into(), ms(199)));
        assert!(queue.push("3".into(), ms(199)));
        assert_eq!(bodies(queue.begin(ms(199))), events(&["1", "2"]), "enough events");
        assert_eq!(queue.begin(ms(1000)), None, "a batch is in flight");
        assert_eq!(queue.acknowledge(), None);
        assert_eq!(queue.begin(ms(398)), None);
        assert_eq!(bodies(queue.begin(ms(399))), events(&["3"]), "due by age");
        assert_eq!(queue.acknowledge(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_unacknowledged_batch_is_retried_with_backoff() {
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
        assert_eq!(queue.begin(now), None, "no retry: waits for more events");
    }

    #[test]
    fn events_that_do_not_fit_are_lost_and_reported_once() {
        let mut queue = queue();
        for (event, queued) in [
            ("1", true),
            ("2", true),
            ("3", true),
            ("4", true),
            ("5", false),
            ("6", false),
        ] {
            assert_eq!(queue.push(event.into(), ms(0)), queued, "{event}");
        }
        assert!(queue.begin(ms(0)).is_some());
        queue.fail(ms(0));
        assert!(
            !queue.push("7".into(), ms(0)),
            "events in flight are not durable yet"
        );
        assert_eq!(bodies(queue.begin(ms(100))), events(&["1", "2"]));
        assert_eq!(queue.acknowledge(), Some(3));
        assert!(queue.push("lost".into(), ms(100)));
        assert_eq!(bodies(queue.begin(ms(100))), events(&["3", "4"]));
        assert_eq!(queue.acknowledge(), None, "reported once");
    }

    #[test]
    fn a_batch_is_bounded_in_bytes() {
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
    fn appending_keeps_all_events_that_fit() {
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
        assert_eq!(next.acknowledge(), Some(1), "two of the three fit");
        assert_eq!(bodies(next.begin(ms(10))), events(&["1", "2"]));
    }
}
