//! What the audit log will be told of one request, once it has ended.

use std::rc::Rc;
use std::time::Duration;

use postern_gate::audit::{DecisionContext, Head, RequestOutcome};
use postern_gate::ports::Clock;
use postern_gate::{Denial, Request};

use crate::audit::Fields;
use crate::ports::ProxyClock;
use crate::worker::Worker;

/// A request of which the log is told: exactly once, when it is answered, refused or gone.
pub(crate) struct RequestRecord {
    worker: Rc<Worker>,
    /// None if the head could not be read.
    head: Option<Head>,
    started: Duration,
    /// Set once the request is released.
    released: Option<DecisionContext>,
}

impl RequestRecord {
    /// Begins it, where a log is told.
    pub(crate) fn begin(worker: &Rc<Worker>) -> Option<Self> {
        worker.audit.as_ref()?;
        Some(Self {
            worker: Rc::clone(worker),
            head: None,
            started: ProxyClock.monotonic(),
            released: None,
        })
    }

    /// Takes down the request's head, before anything changes it.
    pub(crate) fn read(&mut self, request: &Request<'_>) {
        self.head = Some(Head::of(request));
    }

    /// Has it recorded that the request is about to be released. The call's token.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub(crate) fn announce(&self, context: &DecisionContext, trace: &Fields) -> Result<u32, String> {
        let audit = self.worker.audit.as_ref().ok_or("no log is told")?;
        audit.announce(&self.worker, self.head.as_ref(), context, trace)
    }

    pub(crate) fn released(&mut self, context: DecisionContext) {
        self.released = Some(context);
    }

    pub(crate) fn refused(self, denial: &Denial) {
        let outcome = RequestOutcome::Refused(denial.reason, denial.status());
        self.tell(&denial.context, outcome);
    }

    /// Another than the gate answered, or nobody. `waiting` is how far a request came that was not released.
    pub(crate) fn ended(self, status: Option<u16>, waiting: impl FnOnce() -> DecisionContext) {
        match &self.released {
            Some(context) => self.tell(context, RequestOutcome::Released(status)),
            None => self.tell(&waiting(), RequestOutcome::Abandoned(status)),
        }
    }

    fn tell(&self, context: &DecisionContext, outcome: RequestOutcome) {
        if let Some(audit) = &self.worker.audit {
            audit.tell(&self.worker, self.head.as_ref(), context, outcome, self.started);
        }
    }
}
