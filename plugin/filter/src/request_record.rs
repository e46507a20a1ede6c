//! The audit event of one request, recorded once it has ended.

use std::rc::Rc;
use std::time::Duration;

use postern_gate::audit::{DecisionContext, RequestHead, RequestOutcome};
use postern_gate::ports::Clock;
use postern_gate::{Denial, Request};

use crate::ingest::Fields;
use crate::ports::ProxyClock;
use crate::worker::Worker;

/// Records a request exactly once: when it is answered, refused or gone.
pub(crate) struct RequestRecord {
    worker: Rc<Worker>,
    /// `None` if the head could not be read.
    head: Option<RequestHead>,
    started: Duration,
    /// Set once the request is released.
    released: Option<DecisionContext>,
}

impl RequestRecord {
    /// `None` if decisions are not recorded.
    pub(crate) fn begin(worker: &Rc<Worker>) -> Option<Self> {
        worker.audit.as_ref()?;
        Some(Self {
            worker: Rc::clone(worker),
            head: None,
            started: ProxyClock.monotonic(),
            released: None,
        })
    }

    /// Copies the request's head, before anything changes it.
    pub(crate) fn read(&mut self, request: &Request<'_>) {
        self.head = Some(RequestHead::of(request));
    }

    /// Sends the admission of the request. Returns the call's token.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub(crate) fn send_admission(&self, context: &DecisionContext, trace: &Fields) -> Result<u32, String> {
        let audit = self.worker.audit.as_ref().ok_or("decisions are not recorded")?;
        audit.send_admission(&self.worker.engine, self.head.as_ref(), context, trace)
    }

    /// The request was released to its upstream.
    pub(crate) fn released(&mut self, context: DecisionContext) {
        self.released = Some(context);
    }

    /// The gate refused the request.
    pub(crate) fn refused(self, denial: &Denial) {
        let outcome = RequestOutcome::Refused(denial.reason, denial.status());
        self.record(&denial.context, outcome);
    }

    /// The upstream or another filter answered with `status`, or nobody did. `waiting` is the context of a request that
    /// was not released.
    pub(crate) fn ended(self, status: Option<u16>, waiting: impl FnOnce() -> DecisionContext) {
        match &self.released {
            Some(context) => self.record(context, RequestOutcome::Released(status)),
            None => self.record(&waiting(), RequestOutcome::Abandoned(status)),
        }
    }

    fn record(&self, context: &DecisionContext, outcome: RequestOutcome) {
        if let Some(audit) = &self.worker.audit {
            let head = self.head.as_ref();
            audit.record(&self.worker.engine, head, context, outcome, self.started);
        }
    }
}
