//! What the gate asks of its surroundings: four small traits. The filter implements them over proxy-wasm; tests and
//! `postern try` in memory.

pub mod memory;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::jwt::VerifyingKey;
use crate::{Identity, Reason, limit::Report};

/// The time.
pub trait Clock {
    /// Time since the Unix epoch: what tokens and timestamps are judged by.
    fn wall(&self) -> Duration;
    /// Time since an origin that all who share a [`SharedState`] agree on, never going back: what limits are counted by.
    fn monotonic(&self) -> Duration;
}

/// A version of a value in the shared state. Zero is no version: a write with it would overwrite anything.
pub type Version = NonZeroU32;

/// The value was changed by another since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// A map shared by all workers of one proxy.
pub trait SharedState {
    /// The value under `key` and its version.
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)>;

    /// Replaces the value under `key` if its version still is `expected`; writes it outright where `expected` is `None`,
    /// which overwrites whatever another wrote in the meantime.
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

/// The token's signature is not the key's.
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

/// What happened to a request on its way, for counters and explanations.
#[derive(Debug)]
pub enum Event<'a> {
    /// A rule matched; its index in the configuration.
    Matched {
        /// The rule's index.
        rule: usize,
    },
    /// The caller is known.
    Authenticated {
        /// By which entry, `issuers/<name>` and so on.
        by: &'a str,
        /// Who.
        subject: &'a str,
    },
    /// Roles and claims were sufficient.
    Authorized,
    /// A limit counted the request.
    Limited {
        /// The outcome.
        report: &'a Report<'a>,
    },
    /// A limit's slot was taken from another key that still had some of its quota used.
    Evicted,
    /// An older key set was used because no newer one could be fetched.
    StaleKeys,
    /// The rule's policy is asked.
    PolicyAsked {
        /// The rule's index.
        rule: usize,
    },
    /// The rule's policy need not be asked: an answer that it granted for such requests is still good.
    PolicyRecalled {
        /// The rule's index.
        rule: usize,
    },
    /// The policy host could not be reached in time, and the rule lets pass nevertheless.
    PolicyWaived {
        /// The rule's index.
        rule: usize,
    },
    /// The policy or its host is in trouble.
    PolicyTrouble {
        /// The rule's index.
        rule: usize,
        /// What is wrong, for operators.
        why: &'a str,
    },
    /// The request was admitted.
    Admitted {
        /// The rule's index; none if `default: allow` admitted it.
        rule: Option<usize>,
    },
    /// The request was refused.
    Refused {
        /// The rule's index, if one matched.
        rule: Option<usize>,
        /// Why.
        reason: Reason,
    },
}

/// Is told what happens.
pub trait Metrics {
    /// Takes note of `event`.
    fn note(&self, event: &Event<'_>);
}

/// The four ports together.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// What all workers share.
    pub state: &'a dyn SharedState,
    /// Who verifies signatures.
    pub verifier: &'a dyn Verifier,
    /// Who is told.
    pub metrics: &'a dyn Metrics,
}

impl Ports<'_> {
    pub(crate) fn authenticated(&self, by: &str, identity: &Identity) {
        self.metrics.note(&Event::Authenticated {
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
