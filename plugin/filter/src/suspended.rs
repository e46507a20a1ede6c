//! Requests that are resumed from outside their own callbacks: when keys arrive, or when a call that was made from the
//! root context ends.

use std::rc::{Rc, Weak};

use postern_gate::PolicyResponse;
use proxy_wasm::hostcalls;

use crate::ingest::IngestResponse;

/// A request that waits. Each method is called with the request as the effective context.
pub(crate) trait Suspended {
    /// The wait for keys is over, with keys or without. `older`: the keys may be older than the request.
    fn keys_arrived(self: Rc<Self>, older: bool);

    /// The policy host responded to the call with this token.
    fn policy_responded(self: Rc<Self>, token: u32, response: PolicyResponse);

    /// The audit log responded to the call with this token.
    fn audit_responded(self: Rc<Self>, token: u32, response: &IngestResponse);
}

/// A request by its context in the proxy. It does not keep the request alive: the client may go away.
pub(crate) struct RequestHandle {
    context_id: u32,
    request: Weak<dyn Suspended>,
}

impl RequestHandle {
    pub(crate) fn new(context_id: u32, request: Weak<dyn Suspended>) -> Self {
        Self { context_id, request }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.request.strong_count() == 0
    }

    /// The request, made the effective context; `None` if it is gone. Without it as the context, there would be nothing
    /// to act on, and calls would reach the root context.
    pub(crate) fn enter(self) -> Option<Rc<dyn Suspended>> {
        let request = self.request.upgrade()?;
        hostcalls::set_effective_context(self.context_id).ok()?;
        Some(request)
    }
}
