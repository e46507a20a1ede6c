//! What the gate returns to its shell: the next step of a request.

use std::rc::Rc;

use crate::audit::DecisionContext;
use crate::denial::Denial;
use crate::identity::Identity;
use crate::pending::{PendingAudit, PendingBody, PendingKeys, PendingPolicy};
use crate::policy::Allowance;

/// The next step of a request.
#[derive(Debug)]
pub enum Step {
    /// Apply the effects and let the request go on to its upstream.
    Continue(Effects),
    /// Send the denial; the upstream sees nothing.
    Deny(Denial),
    /// Provide what the request waits for. Each variant has its own continuation.
    Need(Need),
}

/// What a request waits for. Each holds the request's state, which only the continuation for that wait accepts:
///
/// ```compile_fail,E0308
/// # use postern_gate::{Gate, PendingKeys, ports::Ports};
/// fn release(gate: &Gate, pending: PendingKeys, ports: &Ports<'_>) {
///     gate.resume_after_audit(pending, true, ports); // expected `PendingAudit`, found `PendingKeys`
/// }
/// ```
#[derive(Debug)]
pub enum Need {
    /// Newer keys of an issuer: install them with [`Gate::install_keys`](crate::Gate::install_keys), then call
    /// [`Gate::resume_with_keys`](crate::Gate::resume_with_keys), whether or not there were any.
    Keys(PendingKeys),
    /// The whole body: pass each part to [`Gate::receive_body`](crate::Gate::receive_body), then call
    /// [`Gate::resume_with_body`](crate::Gate::resume_with_body).
    Body(PendingBody),
    /// A policy's decision: see [`Gate::consult`](crate::Gate::consult).
    Policy(PendingPolicy),
    /// The admission, recorded in the audit log: see [`Gate::resume_after_audit`](crate::Gate::resume_after_audit).
    Audit(PendingAudit),
}

/// Changes to an admitted request and to its response.
#[derive(Debug, Default)]
pub struct Effects {
    /// Names of request headers to remove: identity headers that the client sent.
    pub strip: Vec<String>,
    /// The caller, whose [`headers`](Identity::headers) are set on the request.
    pub identity: Option<Rc<Identity>>,
    /// Headers to add to the response.
    pub response: Vec<(&'static str, String)>,
    /// The policy's header changes. They are applied to the request before the caller's headers are set.
    pub policy: Option<Box<Allowance>>,
    /// The decision's context, for the audit log.
    pub context: DecisionContext,
}
