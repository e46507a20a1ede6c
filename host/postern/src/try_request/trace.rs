//! Records what the gate reports about a request.

use std::cell::RefCell;

use postern_gate::ports::{Event, Metrics};

/// An event that the gate reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TraceEntry {
    Matched {
        rule: usize,
    },
    Authenticated {
        by: String,
        subject: String,
    },
    Authorized,
    Limited(LimitStatus),
    Evicted,
    /// The policy would be consulted.
    PolicyConsulted,
}

/// The state of a limit after a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct LimitStatus {
    pub(super) name: String,
    pub(super) quota: u32,
    pub(super) window_seconds: u64,
    pub(super) remaining: u32,
    pub(super) reset_seconds: u64,
    pub(super) admitted: bool,
}

/// Records the events of a request.
#[derive(Default)]
pub(super) struct TraceRecorder(RefCell<Vec<TraceEntry>>);

impl TraceRecorder {
    /// Takes the entries recorded since the last call.
    pub(super) fn take(&self) -> Vec<TraceEntry> {
        self.0.take()
    }
}

impl Metrics for TraceRecorder {
    fn note(&self, event: &Event<'_>) {
        let entry = match event {
            Event::Matched { rule } => TraceEntry::Matched { rule: *rule },
            Event::Authenticated { by, subject } => TraceEntry::Authenticated {
                by: (*by).to_owned(),
                subject: (*subject).to_owned(),
            },
            Event::Authorized => TraceEntry::Authorized,
            Event::Limited { report } => TraceEntry::Limited(LimitStatus {
                name: report.name.to_owned(),
                quota: report.quota,
                window_seconds: report.window,
                remaining: report.remaining,
                reset_seconds: report.reset,
                admitted: report.admitted,
            }),
            Event::Evicted => TraceEntry::Evicted,
            Event::PolicyAsked { .. } => TraceEntry::PolicyConsulted,
            // The step carries the decision, keys given with `--jwks` never go stale, and no policy is called here.
            Event::StaleKeys
            | Event::PolicyRecalled { .. }
            | Event::PolicyWaived { .. }
            | Event::PolicyTrouble { .. }
            | Event::Admitted { .. }
            | Event::Refused { .. } => return,
        };
        self.0.borrow_mut().push(entry);
    }
}
