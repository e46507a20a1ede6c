//! Policies: what is asked of the policy host, how its answer is read, and which answers may be used again.
//!
//! The protocol is Envoy's `envoy.service.auth.v3.Authorization`, so that any server of it can take the host's place.
//! Everything here is pure: the shell carries the messages.

mod answer;
mod cache;
mod grant;
mod headers;
mod identity;
mod messages;
mod question;

use std::time::Duration;

use crate::secret::Secret;
use crate::step::{Pending, Step};

pub(crate) use answer::read as read_answer;
pub(crate) use cache::{DecisionCache, Digest};
pub(crate) use grant::{Grant, Part, key};
pub(crate) use headers::unsound;
pub(crate) use identity::told;
pub(crate) use question::{Question, encode};

/// What a rule asks, compiled.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) module: String,
    /// The largest body it is shown; none where it is shown none.
    pub(crate) body: Option<usize>,
    /// A request passes where the host cannot be reached in time.
    pub(crate) failed_open: bool,
    /// Answers may be used again.
    pub(crate) recalled: bool,
}

/// Who is asked.
#[derive(Debug, Clone)]
pub struct PolicyHost {
    /// The proxy's cluster for it.
    pub cluster: String,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What shows the host that its gate asks: `Bearer <token>`.
    pub(crate) authorization: Option<Secret>,
}

impl PolicyHost {
    /// The gRPC service that is called.
    pub const SERVICE: &'static str = "envoy.service.auth.v3.Authorization";
    /// Its method.
    pub const METHOD: &'static str = "Check";
    /// Larger answers are refused unread.
    pub const MAX_ANSWER: usize = 256 * 1024;

    /// The value of `authorization` that goes with each call, if the host wants one. A secret: for the call alone.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        let secret = self.authorization.as_ref()?;
        std::str::from_utf8(secret.expose()).ok()
    }
}

/// What the shell knows of a request beside its head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// `HTTP/1.1`, `HTTP/2` and so on.
    pub protocol: Option<&'a str>,
    /// The whole body, if the policy is shown it: see [`Gate::policy_of`](crate::Gate::policy_of).
    pub body: &'a [u8],
}

/// What consulting a policy comes to.
#[derive(Debug)]
pub enum Consultation {
    /// It need not be asked.
    Settled(Step),
    /// The message to send to the policy host, whose answer goes to [`Gate::answered`](crate::Gate::answered).
    Ask(Pending, Vec<u8>),
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request may pass.
    Allow(Allowance),
    /// It may not. Without a reply, the client gets a problem document.
    Deny(Option<Reply>),
    /// The policy could not decide, or its answer makes no sense; and why.
    Failed(String),
    /// The host could not be reached in time; and why.
    Unavailable(String),
}

/// What a policy wants of a request that it allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Changes to the request's headers, made in order.
    pub request: Vec<Change>,
    /// Request headers to remove after that.
    pub remove: Vec<String>,
    /// Changes to the response's headers.
    pub response: Vec<Change>,
    /// How long the same holds, and for which requests.
    pub(crate) grant: Option<Grant>,
}

/// A header to be set or added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
    /// What becomes of values that are there.
    pub action: AppendAction,
}

/// What becomes of a header's values that are there (`HeaderValueOption.HeaderAppendAction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendAction {
    /// They stay, and this one is added.
    Append,
    /// This one is added only if there are none.
    AddIfAbsent,
    /// This one takes their place.
    Overwrite,
    /// This one takes their place, if there are any.
    OverwriteIfExists,
}

/// The reply that a policy refuses with, sent as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header fields, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: String,
}

#[cfg(test)]
pub(crate) use messages::CheckRequest;
