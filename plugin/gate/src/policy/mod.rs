//! Policies: the request to the policy host, its response, and the cache of decisions.
//!
//! The protocol is Envoy's `envoy.service.auth.v3.Authorization`, so that any server of it can take the host's place.
//! Everything here is pure: the shell carries the messages.

mod cache;
mod check_request;
mod check_response;
mod grant;
mod headers;
mod identity;
mod messages;

use std::time::Duration;

use crate::secret::Secret;

pub(crate) use cache::{DecisionCache, Digest};
pub(crate) use check_request::{CheckInput, encode};
pub(crate) use grant::{Grant, Part, key};
pub(crate) use headers::invalid_header;
pub(crate) use identity::identity_json;

/// A rule's policy, compiled.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) module: String,
    /// The largest body that the policy is sent, in bytes; `None` if it is sent none.
    pub(crate) body: Option<usize>,
    /// Requests are admitted while the host is unreachable.
    pub(crate) fail_open: bool,
    /// Decisions may be cached.
    pub(crate) cached: bool,
}

/// The policy host, compiled.
#[derive(Debug, Clone)]
pub struct PolicyHost {
    /// The proxy's cluster for it.
    pub cluster: String,
    /// The longest time that a call may take.
    pub timeout: Duration,
    /// `Bearer <token>`, which authenticates the gate to the host.
    pub(crate) authorization: Option<Secret>,
}

impl PolicyHost {
    /// The gRPC service.
    pub const SERVICE: &'static str = "envoy.service.auth.v3.Authorization";
    /// The gRPC method.
    pub const METHOD: &'static str = "Check";
    /// Larger responses are rejected unread. In bytes.
    pub const MAX_RESPONSE: usize = 256 * 1024;

    /// The value of `authorization` for each call, if the host requires one. A secret: for the call alone.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        let secret = self.authorization.as_ref()?;
        std::str::from_utf8(secret.expose()).ok()
    }
}

/// Details of a request that are not in its head. The shell provides them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestDetails<'a> {
    /// `HTTP/1.1`, `HTTP/2` and so on.
    pub protocol: Option<&'a str>,
    /// The whole body, if the policy [is sent it](crate::PendingPolicy::sends_body).
    pub body: &'a [u8],
}

/// The response of a policy, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyResponse {
    /// The request is allowed, with these changes.
    Allow(Allowance),
    /// The request is denied. Without a reply, the client gets a problem document.
    Deny(Option<Reply>),
    /// The policy could not decide, or its response is invalid. Holds the error.
    Failed(String),
    /// The host could not be reached in time. Holds the error.
    Unavailable(String),
}

/// The changes that a policy makes to a request that it allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Changes to the request's headers, made in order.
    pub request: Vec<Change>,
    /// Request headers to remove after that.
    pub remove: Vec<String>,
    /// Changes to the response's headers.
    pub response: Vec<Change>,
    /// How long the decision may be cached, and for which requests.
    pub(crate) grant: Option<Grant>,
}

/// A header to set or add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In lower case.
    pub name: String,
    /// Any bytes but control characters.
    pub value: Vec<u8>,
    /// How existing values are treated.
    pub action: AppendAction,
}

/// How a header change treats existing values (`HeaderValueOption.HeaderAppendAction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendAction {
    /// They stay, and the new value is added.
    Append,
    /// They stay; the new value is added only if there are none.
    AddIfAbsent,
    /// The new value replaces them.
    Overwrite,
    /// The new value replaces them; without any, nothing changes.
    OverwriteIfExists,
}

/// A policy's own response to a request that it denies, sent unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header fields, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Sent as it is.
    pub body: String,
}

#[cfg(test)]
pub(crate) use messages::CheckRequest;
