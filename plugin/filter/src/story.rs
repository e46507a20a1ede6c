//! What the audit log will be told of one request, once it has ended.

use std::rc::Rc;
use std::time::Duration;

use postern_gate::audit::{Ending, Head, Passage};
use postern_gate::ports::Clock;
use postern_gate::{Denial, Request};

use crate::audit::Fields;
use crate::ports::ProxyClock;
use crate::worker::Worker;

/// A request of which the log is told: exactly once, when it is answered, refused or gone.
pub(crate) struct Story {
    worker: Rc<Worker>,
    /// None if the head could not be read.
    head: Option<Head>,
    started: Duration,
    /// Set once the request is released.
    released: Option<Passage>,
}

impl Story {
    /// Begins it, where a log is told.
    pub(crate) fn begin(worker: &Rc<Worker>) -> Option<Self> {
        worker.teller.as_ref()?;
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
    pub(crate) fn announce(&self, passage: &Passage, trace: &Fields) -> Result<u32, String> {
        let teller = self.worker.teller.as_ref().ok_or("no log is told")?;
        teller.announce(&self.worker, self.head.as_ref(), passage, trace)
    }

    pub(crate) fn released(&mut self, passage: Passage) {
        self.released = Some(passage);
    }

    pub(crate) fn refused(self, denial: &Denial) {
        let ending = Ending::Refused(denial.reason, denial.status());
        self.tell(&denial.passage, ending);
    }

    /// Another than the gate answered, or nobody. `waiting` is how far a request came that was not released.
    pub(crate) fn ended(self, status: Option<u16>, waiting: impl FnOnce() -> Passage) {
        match &self.released {
            Some(passage) => self.tell(passage, Ending::Released(status)),
            None => self.tell(&waiting(), Ending::Abandoned(status)),
        }
    }

    fn tell(&self, passage: &Passage, ending: Ending) {
        if let Some(teller) = &self.worker.teller {
            teller.tell(&self.worker, self.head.as_ref(), passage, ending, self.started);
        }
    }
}
