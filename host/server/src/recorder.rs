//! Records the host's own events in the audit log.

use std::time::{Duration, SystemTime};

use postern_audit::{AppendError, Decision, Event, Kind, Log, Time};

/// Records events in the audit log; without a log, does nothing.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    log: Option<Log>,
    /// The name of the host in events.
    name: String,
}

/// The caller, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller<'a> {
    pub(crate) subject: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    /// The policy that the request is made for.
    pub(crate) policy: Option<&'a str>,
}

impl Recorder {
    pub(crate) fn new(log: Option<Log>, name: String) -> Self {
        Self { log, name }
    }

    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Creates an event with the current time.
    pub(crate) fn event(&self, kind: Kind, decision: Decision) -> Event {
        let mut event = Event::new(kind, Time::of(SystemTime::now()));
        event.gateway = Some(self.name.clone());
        event.decision = Some(decision);
        event
    }

    /// Creates an event with the current time and its caller.
    pub(crate) fn event_for(&self, kind: Kind, decision: Decision, caller: Caller<'_>) -> Event {
        let mut event = self.event(kind, decision);
        event.subject = caller.subject.map(truncate);
        event.tenant = caller.tenant.map(truncate);
        event.request_id = caller.request_id.map(truncate);
        event.rule = caller.rule.map(truncate);
        event.policy = caller.policy.map(truncate);
        event
    }

    /// Appends the event without waiting; if there is no room, it is counted as lost.
    pub(crate) fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(log) = &self.log {
            log.enqueue(event());
        }
    }

    /// Appends the event, and waits until it is durable.
    pub(crate) async fn record_durably(&self, event: Event) -> Result<(), AppendError> {
        match &self.log {
            Some(log) => log.append(event).await.map(drop),
            None => Ok(()),
        }
    }

    /// Why the store of the log fails; `None` if it does not.
    pub(crate) fn fault(&self) -> Option<String> {
        Some(self.log.as_ref()?.state().store_failure?.reason)
    }

    /// Why checkpoints of the log fail; `None` if they do not.
    pub(crate) fn checkpoint_error(&self) -> Option<String> {
        self.log.as_ref()?.state().checkpoint_error
    }

    /// Flushes and closes the log within a time limit; returns the number of lost events.
    pub(crate) async fn close(self, limit: Duration) -> usize {
        match self.log {
            Some(log) => log.close_within(limit).await,
            None => 0,
        }
    }
}

/// Truncates a text to the maximum length of an event field.
pub(crate) fn truncate(text: &str) -> String {
    let end = text.floor_char_boundary(Event::LONGEST);
    // The log rejects U+0000, which the subject of a token can contain.
    text.get(..end).unwrap_or_default().replace('\0', "?")
}

/// The duration in microseconds.
pub(crate) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
