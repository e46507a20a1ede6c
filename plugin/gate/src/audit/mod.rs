//! What the audit log of the policy host is told: one event for each decision, as JSON, and when it is sent.
//!
//! The gate says what there is to tell; the shell carries it to the host, `POST` to [`PATH`](Audit::PATH) with a body
//! that [`Queue::begin`] or [`single`] makes, and reads the answer with [`durable`]. No event holds a secret: of a
//! request's headers only the method, the path and the request's id go into it, of a query only names.

mod event;
mod head;
mod queue;
mod target;
mod trace;

use std::rc::Rc;
use std::time::Duration;

use postern_config::json;
use serde::Deserialize;

use crate::identity::Identity;

pub use event::{Event, EventMeta, RequestOutcome};
pub use head::Head;
pub use queue::{Batch, Queue};
pub use trace::Trace;

/// How the log is told, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The longest that an event waits for others to be sent with.
    pub flush: Duration,
    /// The most events of a worker that wait for the log; further ones are lost.
    pub buffer: usize,
    /// The most events in one call.
    pub batch: usize,
}

impl Audit {
    /// Where the host takes events.
    pub const PATH: &'static str = "/v1/audit";
    /// The media type of what is sent.
    pub const CONTENT_TYPE: &'static str = "application/json";
    /// Larger answers are not read.
    pub const MAX_ANSWER: usize = 4096;
}

/// Whether the log is told of a rule's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Never.
    Off,
    /// Once they are answered.
    After,
    /// And of each before it is released: what is not durable then is not released.
    Before,
}

/// How far a request came in the gate: what the gate keeps for its [event](crate::Gate::event).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionContext {
    /// The rule that matched.
    pub(crate) rule: Option<usize>,
    /// Who asks, once that is certain.
    pub(crate) caller: Option<Rc<Identity>>,
    /// The policy could not be asked, and the rule lets pass nevertheless.
    pub(crate) failed_open: bool,
}

/// The body of a call with one event.
#[must_use]
pub fn single(event: &Event<'_>) -> String {
    queue::body([event.to_json().as_str()].into_iter())
}

/// Of how many events an answer of the host says that they are durable: none, if it is no such answer.
#[must_use]
pub fn durable(status: &[u8], body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Answer {
        durable: u64,
    }
    let answer = (status == b"200").then(|| json::object::<Answer>(body));
    Some(answer?.ok()?.durable)
}

/// As much of a text as a log takes, cut between two characters.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
