//! Events for the policy host's audit log: one for each decision, as JSON, and the queue that batches them.
//!
//! The gate creates the events. The shell sends them to the host, by `POST` to [`PATH`](Audit::PATH) with a body from
//! [`Queue::begin`] or [`encode_single`], and parses the response with [`durable_count`]. Events contain no secrets:
//! of a request, only the method, the path, the request's id and the names of query parameters.

mod event;
mod queue;
mod redact;
mod request_head;
mod trace_context;

use std::rc::Rc;
use std::time::Duration;

use postern_config::json;
use serde::Deserialize;

use crate::id::RuleId;
use crate::identity::Identity;

pub use event::{AuditEvent, EventMeta, RequestOutcome};
pub use queue::{Batch, Queue};
pub use request_head::RequestHead;
pub use trace_context::TraceContext;

/// The audit settings, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The longest time that an event waits to be sent in a batch with others.
    pub flush: Duration,
    /// The most events that one worker queues; further ones are lost.
    pub buffer: usize,
    /// The most events in one batch.
    pub batch: usize,
}

impl Audit {
    /// The path of the host's endpoint for events.
    pub const PATH: &'static str = "/v1/audit";
    /// The media type of the request body.
    pub const CONTENT_TYPE: &'static str = "application/json";
    /// Larger responses are not read. In bytes.
    pub const MAX_RESPONSE: usize = 4096;
}

/// The context of a decision, for its [event](crate::Gate::event).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionContext {
    /// The matched rule.
    pub(crate) rule: Option<RuleId>,
    /// The authenticated caller.
    pub(crate) caller: Option<Rc<Identity>>,
    /// The policy host was unreachable, and the rule admits the request nevertheless.
    pub(crate) failed_open: bool,
}

/// Encodes a request body with one event.
#[must_use]
pub fn encode_single(event: &AuditEvent<'_>) -> String {
    queue::body([event.to_json().as_str()].into_iter())
}

/// The number of events that the host's response confirms as durable; `None` for any other response.
#[must_use]
pub fn durable_count(status: &[u8], body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Body {
        durable: u64,
    }
    let response = (status == b"200").then(|| json::object::<Body>(body));
    Some(response?.ok()?.durable)
}

/// The longest prefix of at most `max` bytes that ends between two characters.
fn truncate(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
