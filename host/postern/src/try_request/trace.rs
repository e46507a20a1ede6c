//! The gate's observations about a request.

use std::cell::RefCell;

use postern_gate::RuleId;
use postern_gate::ports::{Observation, Observer};

/// An observation, kept for the explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TraceEntry {
    Matched {
        rule: RuleId,
    },
    Authenticated {
        by: String,
        subject: String,
    },
    Authorized,
    Limited(LimitStatus),
    Evicted,
    /// The policy would be called.
    PolicyConsulted,
}

/// A limit's state.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct LimitStatus {
    pub(super) name: String,
    pub(super) quota: u32,
    pub(super) window_seconds: u64,
    pub(super) remaining: u32,
    pub(super) reset_seconds: u64,
    pub(super) admitted: bool,
}

/// Keeps the observations of a request.
#[derive(Default)]
pub(super) struct TraceRecorder(RefCell<Vec<TraceEntry>>);

impl TraceRecorder {
    /// The observations since the last call.
    pub(super) fn take(&self) -> Vec<TraceEntry> {
        self.0.take()
    }
}

impl Observer for TraceRecorder {
    fn observe(&self, observation: &Observation<'_>) {
        let entry = match observation {
            Observation::Matched { rule } => TraceEntry::Matched { rule: *rule },
            Observation::Authenticated { by, subject } => TraceEntry::Authenticated {
                by: (*by).to_owned(),
                subject: (*subject).to_owned(),
            },
            Observation::Authorized => TraceEntry::Authorized,
            Observation::Limited { report } => TraceEntry::Limited(LimitStatus {
                name: report.name.to_owned(),
                quota: report.quota,
                window_seconds: report.window,
                remaining: report.remaining,
                reset_seconds: report.reset,
                admitted: report.admitted,
            }),
            Observation::Evicted => TraceEntry::Evicted,
            Observation::PolicyCalled { .. } => TraceEntry::PolicyConsulted,
            // The decision is in the step itself, keys given on the command line are never stale, and no policy
            // responds here.
            Observation::StaleKeys
            | Observation::PolicyCached { .. }
            | Observation::PolicyFailedOpen { .. }
            | Observation::PolicyError { .. }
            | Observation::Admitted { .. }
            | Observation::Refused { .. } => return,
        };
        self.0.borrow_mut().push(entry);
    }
}
