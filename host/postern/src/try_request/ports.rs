//! What the gate tells of a request's way.

use std::cell::RefCell;

use postern_gate::ports::{Observation, Observer};

/// What happened, kept to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noted {
    Matched {
        rule: usize,
    },
    Authenticated {
        by: String,
        subject: String,
    },
    Authorized,
    Limited(Limited),
    Evicted,
    /// The policy would be asked.
    PolicyAsked,
}

/// What a limit came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Limited {
    pub(super) name: String,
    pub(super) quota: u32,
    pub(super) window_seconds: u64,
    pub(super) remaining: u32,
    pub(super) reset_seconds: u64,
    pub(super) admitted: bool,
}

/// Keeps the events of a request.
#[derive(Default)]
pub(super) struct Recorder(RefCell<Vec<Noted>>);

impl Recorder {
    /// What was noted since the last time.
    pub(super) fn take(&self) -> Vec<Noted> {
        self.0.take()
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Observation<'_>) {
        let noted = match event {
            Observation::Matched { rule } => Noted::Matched { rule: *rule },
            Observation::Authenticated { by, subject } => Noted::Authenticated {
                by: (*by).to_owned(),
                subject: (*subject).to_owned(),
            },
            Observation::Authorized => Noted::Authorized,
            Observation::Limited { report } => Noted::Limited(Limited {
                name: report.name.to_owned(),
                quota: report.quota,
                window_seconds: report.window,
                remaining: report.remaining,
                reset_seconds: report.reset,
                admitted: report.admitted,
            }),
            Observation::Evicted => Noted::Evicted,
            Observation::PolicyAsked { .. } => Noted::PolicyAsked,
            // The step itself tells the decision, keys given by hand are never old, and no policy answers here.
            Observation::StaleKeys
            | Observation::PolicyRecalled { .. }
            | Observation::PolicyWaived { .. }
            | Observation::PolicyTrouble { .. }
            | Observation::Admitted { .. }
            | Observation::Refused { .. } => return,
        };
        self.0.borrow_mut().push(noted);
    }
}
