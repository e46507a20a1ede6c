//! Requests that wait. Each wait has its own type, which only one continuation accepts, so that resuming with the
//! wrong result does not compile.

use std::rc::Rc;

use crate::audit::DecisionContext;
use crate::id::IssuerId;
use crate::identity::Identity;
use crate::jwt::KeyWait;
use crate::limit::Charge;
use crate::policy::{Allowance, Policy};
use crate::rule::Rule;
use crate::signature;

/// A request that waits for newer keys of an issuer.
#[derive(Debug)]
pub struct PendingKeys {
    pub(crate) suspended: Suspended,
    pub(crate) issuer: IssuerId,
    pub(crate) wait: KeyWait,
}

/// A request that waits for its whole body.
#[derive(Debug)]
pub struct PendingBody {
    pub(crate) suspended: Suspended,
    pub(crate) reader: BodyReader,
}

/// A request whose policy is to be consulted.
#[derive(Debug)]
pub struct PendingPolicy {
    pub(crate) suspended: Suspended,
    pub(crate) policy: Rc<Policy>,
}

/// A request whose policy was called.
#[derive(Debug)]
pub struct PendingResponse {
    pub(crate) suspended: Suspended,
    pub(crate) policy: Rc<Policy>,
}

/// A request whose admission is to be recorded before it is released.
#[derive(Debug)]
pub struct PendingAudit {
    pub(crate) suspended: Suspended,
    pub(crate) allowance: Option<Box<Allowance>>,
}

/// The state that every waiting request has.
#[derive(Debug)]
pub(crate) struct Suspended {
    pub(crate) rule: Rc<Rule>,
    pub(crate) progress: Progress,
}

/// The results of the stages so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Identity headers that the client sent.
    pub(crate) strip: Vec<String>,
    /// The limits charged so far; refunded if another limit refuses the request.
    pub(crate) charges: Vec<Charge>,
    /// The value of `RateLimit` so far.
    pub(crate) rate_limit: String,
    /// The value of `RateLimit-Policy`, for a denial.
    pub(crate) rate_limit_policy: Option<String>,
    /// The body's size in bytes, once all of it was received.
    pub(crate) body: Option<usize>,
    /// The authenticated caller.
    pub(crate) caller: Option<Rc<Identity>>,
    /// The policy host was unreachable, and the rule admits the request nevertheless.
    pub(crate) failed_open: bool,
}

/// The purpose for which a body is received.
#[derive(Debug)]
pub(crate) enum BodyReader {
    /// A signature that covers it.
    Signature(Box<signature::Pending>),
    /// A policy that it is sent to. The shell buffers it.
    Policy { max: usize, received: usize },
}

impl Suspended {
    pub(crate) fn context(&self) -> DecisionContext {
        DecisionContext {
            rule: Some(self.rule.id),
            caller: self.progress.caller.clone(),
            failed_open: self.progress.failed_open,
        }
    }
}

macro_rules! contexts {
    ($($pending:ident),+) => {$(
        impl $pending {
            /// The decision's context so far, for the audit log.
            #[must_use]
            pub fn context(&self) -> DecisionContext {
                self.suspended.context()
            }
        }
    )+};
}

contexts!(
    PendingKeys,
    PendingBody,
    PendingPolicy,
    PendingResponse,
    PendingAudit
);

impl PendingKeys {
    /// The issuer whose keys the request waits for, as in [`Gate::remotes`](crate::Gate::remotes).
    #[must_use]
    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// Lets the request wait once more if it needs to: the keys that came may be older than the request, and lack the
    /// key that it names.
    #[must_use]
    pub fn may_wait_again(self) -> Self {
        Self {
            wait: KeyWait::Allowed,
            ..self
        }
    }
}

impl PendingPolicy {
    /// Whether the policy is sent the body: then [`RequestDetails::body`](crate::RequestDetails::body) holds all of
    /// it.
    #[must_use]
    pub fn sends_body(&self) -> bool {
        self.policy.body.is_some()
    }
}
