//! What the gate needs from its environment: four small traits. The filter implements them over proxy-wasm; tests and
//! `postern try` in memory.

pub mod memory;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::RuleId;
use crate::jwt::VerifyingKey;
use crate::{Identity, Reason, limit::LimitReport};

/// The time.
pub trait Clock {
    /// Time since the Unix epoch, for tokens and timestamps.
    fn wall(&self) -> Duration;
    /// Time since an origin that all users of a [`SharedState`] share. It never goes back; limits are counted by it.
    fn monotonic(&self) -> Duration;
}

/// The version of a value in the shared state. Never zero: a write with version zero would overwrite anything.
pub type Version = NonZeroU32;

/// Another worker changed the value since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// A map shared by all workers of one proxy.
pub trait SharedState {
    /// The value under `key` and its version.
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)>;

    /// Replaces the value under `key` if its version still is `expected`; writes it unconditionally if `expected` is
    /// `None`, which overwrites what another worker wrote in the meantime.
    ///
    /// # Errors
    /// [`Conflict`] if the version changed.
    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict>;

    /// Writes the value under `key` if there is none.
    ///
    /// # Errors
    /// [`Conflict`] if there is one.
    fn create(&self, key: &str, value: &[u8]) -> Result<(), Conflict>;
}

/// The token's signature was not made by the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSignature;

/// Verifies signatures of tokens.
pub trait Verifier {
    /// Whether the compact-serialised `token` (RFC 7515, section 7.1) was signed by `key`, with `key`'s algorithm.
    ///
    /// # Errors
    /// [`BadSignature`] if not.
    fn verify(&self, key: &VerifyingKey, token: &str) -> Result<(), BadSignature>;
}

/// Verifies in pure Rust, through jwt-simple.
#[derive(Debug, Clone, Copy, Default)]
pub struct PureRust;

impl Verifier for PureRust {
    fn verify(&self, key: &VerifyingKey, token: &str) -> Result<(), BadSignature> {
        key.verify(token)
    }
}

/// What the gate observes about a request, for counters and explanations.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A rule matched.
    Matched {
        /// The rule.
        rule: RuleId,
    },
    /// The caller is authenticated.
    Authenticated {
        /// The entry of the configuration that vouches for the caller: `issuers/<name>` and so on.
        by: &'a str,
        /// The caller's subject.
        subject: &'a str,
    },
    /// Roles and claims were sufficient.
    Authorized,
    /// A limit counted the request.
    Limited {
        /// The limit's state.
        report: &'a LimitReport<'a>,
    },
    /// A full table evicted another key that had used some of its quota.
    Evicted,
    /// An older key set was used because no newer one could be fetched.
    StaleKeys,
    /// The rule's policy is called.
    PolicyCalled {
        /// The rule.
        rule: RuleId,
    },
    /// The decision of the rule's policy was cached.
    PolicyCached {
        /// The rule.
        rule: RuleId,
    },
    /// The policy host was unreachable, and the rule admits the request nevertheless.
    PolicyFailedOpen {
        /// The rule.
        rule: RuleId,
    },
    /// The policy or its host failed.
    PolicyError {
        /// The rule.
        rule: RuleId,
        /// The error, for operators.
        why: &'a str,
    },
    /// The request was admitted.
    Admitted {
        /// The rule; `None` if `default: allow` admitted it.
        rule: Option<RuleId>,
    },
    /// The request was refused.
    Refused {
        /// The rule, if one matched.
        rule: Option<RuleId>,
        /// The exact reason.
        reason: Reason,
    },
}

/// Receives what the gate observes.
pub trait Observer {
    /// Counts or stores `observation`.
    fn observe(&self, observation: &Observation<'_>);
}

/// The four ports together.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// Wall and monotonic time.
    pub clock: &'a dyn Clock,
    /// The state that all workers share.
    pub state: &'a dyn SharedState,
    /// Verifies token signatures.
    pub verifier: &'a dyn Verifier,
    /// Receives observations.
    pub observer: &'a dyn Observer,
}

impl Ports<'_> {
    pub(crate) fn authenticated(&self, by: &str, identity: &Identity) {
        self.observer.observe(&Observation::Authenticated {
            by,
            subject: &identity.subject,
        });
    }
}

impl std::fmt::Debug for Ports<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports(..)")
    }
}
