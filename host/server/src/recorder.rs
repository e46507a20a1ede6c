//! What the host itself tells the audit log.

use std::time::{Duration, SystemTime};

use postern_audit::{AppendError, Decision, Event, Kind, Log, Time};

/// The host's way to its audit log; without one, it tells nobody.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    log: Option<Log>,
    /// The host's name in events.
    name: String,
}

/// Who asked, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller<'a> {
    pub(crate) subject: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    /// The policy on whose behalf.
    pub(crate) policy: Option<&'a str>,
}

impl Recorder {
    pub(crate) fn new(log: Option<Log>, name: String) -> Self {
        Self { log, name }
    }

    /// The log, if there is one.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// An event of now.
    pub(crate) fn event(&self, kind: Kind, decision: Decision) -> Event {
        let mut event = Event::new(kind, Time::of(SystemTime::now()));
        event.gateway = Some(self.name.clone());
        event.decision = Some(decision);
        event
    }

    /// An event of now, by someone's wish.
    pub(crate) fn event_for(&self, kind: Kind, decision: Decision, caller: Caller<'_>) -> Event {
        let mut event = self.event(kind, decision);
        event.subject = caller.subject.map(truncate);
        event.tenant = caller.tenant.map(truncate);
        event.request_id = caller.request_id.map(truncate);
        event.rule = caller.rule.map(truncate);
        event.policy = caller.policy.map(truncate);
        event
    }

    /// Tells it without waiting; what there is no room for is counted.
    pub(crate) fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(log) = &self.log {
            log.enqueue(event());
        }
    }

    /// Tells it, and waits until it is durable.
    pub(crate) async fn record_durably(&self, event: Event) -> Result<(), AppendError> {
        match &self.log {
            Some(log) => log.append(event).await.map(drop),
            None => Ok(()),
        }
    }

    /// What is wrong with the log, if something is.
    pub(crate) fn fault(&self) -> Option<String> {
        Some(self.log.as_ref()?.state().store_failure?.reason)
    }

    /// What is wrong with the log's checkpoints, if something is.
    pub(crate) fn checkpoint_error(&self) -> Option<String> {
        self.log.as_ref()?.state().checkpoint_error
    }

    /// Writes out what waits, and ends the log, within a time; how many events are lost.
    pub(crate) async fn close(self, limit: Duration) -> usize {
        match self.log {
            Some(log) => log.close_within(limit).await,
            None => 0,
        }
    }
}

/// As much of a text as an event takes.
pub(crate) fn truncate(text: &str) -> String {
    let end = text.floor_char_boundary(Event::LONGEST);
    // No log takes U+0000, which a token's subject can have.
    text.get(..end).unwrap_or_default().replace('\0', "?")
}

/// In microseconds.
pub(crate) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
