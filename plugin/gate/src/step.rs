//! What the gate tells its shell to do, and what it asks of it.

use std::rc::Rc;

use crate::audit::DecisionContext;
use crate::denial::Denial;
use crate::identity::Identity;
use crate::limit::Charge;
use crate::policy::Allowance;
use crate::{Reason, signature};

/// The next step of a request.
#[derive(Debug)]
pub enum Step {
    /// Apply the effects and let the request go on.
    Continue(Effects),
    /// Answer with the refusal; the upstream sees nothing.
    Deny(Denial),
    /// Fetch what is needed, then [`resume`](crate::Gate::resume).
    Need(Need, Pending),
}

/// What the gate needs before it can decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The whole body: pass each part to [`Pending::body`]. No more than `max` bytes are accepted.
    Body {
        /// The bound, in bytes.
        max: usize,
    },
    /// Newer keys of an issuer, or the news that there are none for now.
    Keys {
        /// The issuer's index, as in [`Gate::remotes`](crate::Gate::remotes).
        issuer: usize,
    },
    /// A policy's answer: see [`Gate::consult`](crate::Gate::consult).
    Policy,
    /// Word of the audit log that it holds the request: see [`Gate::recorded`](crate::Gate::recorded).
    Audit,
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
    /// What a policy wants besides, on the request before the caller's headers are set.
    pub policy: Option<Box<Allowance>>,
    /// What the audit log is told of the way so far.
    pub context: DecisionContext,
}

/// A request that waits for what it needs.
#[derive(Debug)]
pub struct Pending {
    pub(crate) rule: usize,
    pub(crate) progress: Progress,
    pub(crate) waiting: Waiting,
}

/// What was settled before the request had to wait.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) strip: Vec<String>,
    /// What the request was charged so far, to be taken back if another limit refuses it.
    pub(crate) charges: Vec<Charge>,
    /// The value of `RateLimit` so far.
    pub(crate) state: String,
    /// The value of `RateLimit-Policy`, for a refusal.
    pub(crate) policy: Option<String>,
    /// The size of the body, once all of it has passed.
    pub(crate) body: Option<usize>,
    /// Who asks, once that is certain.
    pub(crate) caller: Option<Rc<Identity>>,
    /// The policy could not be asked, and the rule lets pass nevertheless.
    pub(crate) failed_open: bool,
}

#[derive(Debug)]
pub(crate) enum Waiting {
    Keys {
        /// Once resumed, the request may ask for keys once more.
        again: bool,
    },
    Body {
        /// Index among the signature schemes.
        scheme: usize,
        signature: Box<signature::Pending>,
    },
    /// For the body that a policy is shown; the shell holds it.
    Shown {
        max: usize,
        received: usize,
    },
    Policy,
    /// For the audit log, after everything else.
    Audit {
        policy: Option<Box<Allowance>>,
    },
}

impl Pending {
    /// The keys that came may be older than the request: resumed, it may ask for keys once more instead of being refused
    /// for a key that they lack.
    pub fn may_need_newer_keys(&mut self) {
        if let Waiting::Keys { again } = &mut self.waiting {
            *again = true;
        }
    }

    /// What the audit log is told of the way so far.
    #[must_use]
    pub fn context(&self) -> DecisionContext {
        DecisionContext {
            rule: Some(self.rule),
            caller: self.progress.caller.clone(),
            failed_open: self.progress.failed_open,
        }
    }

    /// Takes the next part of the body. A part that goes over the bound is noted, and the resumed request refused;
    /// the shell may then resume at once.
    ///
    /// # Errors
    /// The refusal, if the body is too large.
    pub fn body(&mut self, part: &[u8]) -> Result<(), Denial> {
        match &mut self.waiting {
            Waiting::Keys { .. } | Waiting::Policy | Waiting::Audit { .. } => Ok(()),
            Waiting::Shown { max, received } => {
                *received = received.saturating_add(part.len());
                if received > max {
                    return Err(Denial::new(Reason::BodyTooLarge));
                }
                Ok(())
            }
            Waiting::Body { signature, .. } => signature.body(part).map_err(Denial::new),
        }
    }
}
