//! Requests that wait for keys, and those that are ready to resume.
//!
//! Envoy carries out the replies and resumptions that a callback makes after the callback, and nested: each enters the VM
//! again for its response before the next one begins. About 300 in one callback exhaust the VM's stack, which ends the
//! VM. A callback therefore resumes [`BATCH`] requests at most; the others follow in the next ticks.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use postern_gate::IssuerId;

use crate::jwks::FetchResult;
use crate::suspended::RequestHandle;

/// Requests that one callback resumes.
const BATCH: usize = 32;

/// Requests that may wait for one issuer's keys in a worker. A waiting request costs little here compared with what it
/// costs the proxy, whose own bounds on connections and requests are reached first.
const MAX_WAITING: usize = 10_000;

/// A request that waits for keys.
pub(crate) struct Waiting {
    /// Since when: keys whose fetch began earlier may lack the one it needs.
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
    pub(crate) request: RequestHandle,
}

/// A request whose wait is over.
pub(crate) struct Ready {
    pub(crate) request: RequestHandle,
    /// The keys may be older than the request.
    pub(crate) older: bool,
}

/// The queue of one worker.
#[derive(Default)]
pub(crate) struct KeyQueue {
    by_issuer: HashMap<IssuerId, Vec<Waiting>>,
    ready: VecDeque<Ready>,
}

impl KeyQueue {
    /// Adds a request. False if the queue is full.
    pub(crate) fn push(&mut self, issuer: IssuerId, waiting: Waiting) -> bool {
        let queue = self.by_issuer.entry(issuer).or_default();
        let has_room = queue.len() < MAX_WAITING;
        if has_room {
            queue.push(waiting);
        }
        has_room
    }

    /// Ends the wait for an issuer's keys, with keys or without.
    pub(crate) fn fetched(&mut self, result: &FetchResult) {
        let waiting = self.by_issuer.remove(&result.issuer).unwrap_or_default();
        self.ready.extend(waiting.into_iter().map(|waiting| Ready {
            older: result.begun.is_some_and(|begun| begun < waiting.since),
            request: waiting.request,
        }));
    }

    /// Ends the wait of requests past their deadline, and removes those that are gone.
    pub(crate) fn expire(&mut self, now: Duration) {
        for waiting in self.by_issuer.values_mut() {
            waiting.retain(|waiting| !waiting.request.is_gone());
            let expired = waiting.extract_if(.., |waiting| waiting.deadline <= now);
            self.ready.extend(expired.map(|waiting| Ready {
                request: waiting.request,
                older: false,
            }));
        }
    }

    /// The requests to resume in this callback.
    pub(crate) fn next_batch(&mut self) -> Vec<Ready> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(ready) = self.ready.pop_front() else {
                break;
            };
            if !ready.request.is_gone() {
                batch.push(ready);
            }
        }
        batch
    }

    /// Whether requests are left for the next callback.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}
