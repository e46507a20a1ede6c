//! What one worker holds under one configuration: the engine, the clients and the requests that wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use postern_gate::ports::Clock;
use postern_gate::{IssuerId, PolicyResponse};

use crate::audit_client::AuditClient;
use crate::engine::Engine;
use crate::ingest::IngestResponse;
use crate::jwks::{FetchResult, JwksClient};
use crate::key_queue::{KeyQueue, Waiting};
use crate::ports::ProxyClock;
use crate::suspended::RequestHandle;

pub(crate) struct Worker {
    pub(crate) engine: Engine,
    jwks: RefCell<JwksClient>,
    waiting: RefCell<KeyQueue>,
    /// Requests whose policy was called from outside their own callbacks, by the call's token: the SDK passes such
    /// responses to the root context. Every call ends, at the latest by its timeout, so that no entry stays.
    policy_calls: RefCell<HashMap<u32, RequestHandle>>,
    /// The same for admissions.
    admissions: RefCell<HashMap<u32, RequestHandle>>,
    /// `None` if decisions are not recorded.
    pub(crate) audit: Option<AuditClient>,
}

/// Whether a request waits for keys.
pub(crate) enum Wait {
    Begun,
    /// No keys are expected soon: the request is decided on without.
    Pointless,
    /// Too many requests wait already.
    Full,
}

impl Worker {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            jwks: RefCell::new(JwksClient::new(&engine.gate)),
            audit: AuditClient::new(&engine.gate),
            engine,
            waiting: RefCell::default(),
            policy_calls: RefCell::default(),
            admissions: RefCell::default(),
        }
    }

    /// Creates the shared records of key fetches.
    pub(crate) fn prepare(&self) {
        self.jwks.borrow().prepare();
    }

    /// Queues a request for an issuer's keys. `since` is when it first needed keys, set to now if unknown: a fetch that
    /// began later has all the keys there are.
    pub(crate) fn wait_for_keys(
        &self,
        issuer: IssuerId,
        request: RequestHandle,
        since: &mut Option<Duration>,
    ) -> Wait {
        let now = ProxyClock.monotonic();
        let Some(timeout) = self.jwks.borrow_mut().request(issuer, now) else {
            return Wait::Pointless;
        };
        let waiting = Waiting {
            since: *since.get_or_insert(now),
            deadline: now.saturating_add(timeout),
            request,
        };
        if self.waiting.borrow_mut().push(issuer, waiting) {
            Wait::Begun
        } else {
            Wait::Full
        }
    }

    /// The work of a tick but for resumptions. To be called with the root as the effective context: its calls are the
    /// root's.
    pub(crate) fn tick(&self) {
        let fetched = self.jwks.borrow_mut().tick(&self.engine);
        if let Some(audit) = &self.audit {
            audit.tick(&self.engine);
        }
        self.keys_fetched(&fetched);
        self.waiting.borrow_mut().expire(ProxyClock.monotonic());
        self.engine.counters.flush();
    }

    /// Handles the end of a key fetch. False if the call was not a key fetch.
    pub(crate) fn fetch_ended(&self, token: u32, headers: usize, body_size: usize) -> bool {
        let fetched = self
            .jwks
            .borrow_mut()
            .call_ended(token, headers, body_size, &self.engine);
        self.keys_fetched(fetched.as_slice());
        fetched.is_some()
    }

    fn keys_fetched(&self, fetched: &[FetchResult]) {
        let mut waiting = self.waiting.borrow_mut();
        fetched.iter().for_each(|fetched| waiting.fetched(fetched));
    }

    /// Resumes a batch of the requests whose wait for keys is over. True if more are ready.
    pub(crate) fn resume_batch(&self) -> bool {
        let batch = self.waiting.borrow_mut().next_batch();
        for ready in batch {
            if let Some(request) = ready.request.enter() {
                request.keys_arrived(ready.older);
            }
        }
        self.waiting.borrow().has_ready()
    }

    /// Routes the response to a policy call made from the root context to its request.
    pub(crate) fn expect_policy(&self, token: u32, request: RequestHandle) {
        self.policy_calls.borrow_mut().insert(token, request);
    }

    /// Routes the response to an admission sent from the root context to its request.
    pub(crate) fn expect_admission(&self, token: u32, request: RequestHandle) {
        self.admissions.borrow_mut().insert(token, request);
    }

    /// Handles the response to a policy call made from the root context.
    pub(crate) fn policy_responded(&self, token: u32, response: PolicyResponse) {
        let request = self.policy_calls.borrow_mut().remove(&token);
        if let Some(request) = request.and_then(RequestHandle::enter) {
            request.policy_responded(token, response);
        }
    }

    /// Handles the response of the audit log to a call made from the root context. False if the call was not to the
    /// audit log.
    pub(crate) fn audit_responded(&self, token: u32, headers: usize, body_size: usize) -> bool {
        let Some(audit) = &self.audit else { return false };
        let admission = self.admissions.borrow_mut().remove(&token);
        if admission.is_none() && !audit.awaits(token) {
            return false;
        }
        // Read first: the buffer belongs to this callback, whichever context it is for.
        let response = IngestResponse::read(headers, body_size);
        match admission {
            None => audit.batch_ended(&response, &self.engine),
            Some(request) => {
                if let Some(request) = request.enter() {
                    request.audit_responded(token, &response);
                }
            }
        }
        true
    }
}
