//! What one worker holds under one configuration: the gate, its tables and the requests that wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use postern_gate::ports::{Clock, Ports};
use postern_gate::{Answer, Gate, Tables};
use proxy_wasm::hostcalls;

use crate::audit::{AuditClient, IngestResponse};
use crate::exchange::{CallbackContext, Exchange};
use crate::jwks::{Fetched, Fetcher};
use crate::metrics::Counters;
use crate::ports::{ProxyClock, SharedData};
use crate::verifier::ProxyVerifier;
use crate::waiting::{Waiter, Waiting};

pub(crate) struct Worker {
    pub(crate) gate: Gate,
    pub(crate) tables: Tables,
    pub(crate) counters: Counters,
    pub(crate) needs_source: bool,
    pub(crate) verifier: ProxyVerifier,
    pub(crate) fetcher: RefCell<Fetcher>,
    waiting: RefCell<Waiting>,
    /// The requests whose policy was asked from outside their own callbacks, by the call's token. The SDK hands such
    /// answers to the root context. Each call is answered, by a timeout if by nothing else, so that none stays here.
    calls: RefCell<HashMap<u32, Call>>,
    /// The same for requests that the audit log is to hold.
    records: RefCell<HashMap<u32, Call>>,
    /// Who tells the audit log, if it is told.
    pub(crate) audit: Option<AuditClient>,
}

/// A request that waits for the answer to a call.
struct Call {
    context_id: u32,
    exchange: Weak<RefCell<Exchange>>,
}

impl Call {
    fn new(context_id: u32, exchange: &Rc<RefCell<Exchange>>) -> Self {
        Self {
            context_id,
            exchange: Rc::downgrade(exchange),
        }
    }

    /// The request, which is the effective context then; none if it has gone.
    fn resume(self) -> Option<Rc<RefCell<Exchange>>> {
        let exchange = self.exchange.upgrade()?;
        hostcalls::set_effective_context(self.context_id).ok()?;
        Some(exchange)
    }
}

/// Whether a request waits for keys.
pub(crate) enum Wait {
    Begun,
    /// None are to be expected soon: it is decided without.
    Pointless,
    /// Too many wait already.
    Full,
}

impl Worker {
    pub(crate) fn new(gate: Gate, tables: Tables, verifier: ProxyVerifier) -> Self {
        let counters = Counters::new(gate.rule_names().map(str::to_owned).collect());
        let fetcher = RefCell::new(Fetcher::new(&gate));
        let needs_source = gate.needs_source();
        let audit = AuditClient::new(&gate);
        Self {
            gate,
            tables,
            counters,
            needs_source,
            verifier,
            fetcher,
            waiting: RefCell::default(),
            calls: RefCell::default(),
            records: RefCell::default(),
            audit,
        }
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            clock: &ProxyClock,
            state: &SharedData,
            verifier: &self.verifier,
            metrics: &self.counters,
        }
    }

    /// Lets a request wait for an issuer's keys. `since` is when it first asked for keys, now if it is not known yet: a
    /// fetch that began after that has all it can get.
    pub(crate) fn wait_for_keys(
        &self,
        issuer: usize,
        context_id: u32,
        exchange: Weak<RefCell<Exchange>>,
        since: &mut Option<Duration>,
    ) -> Wait {
        let now = ProxyClock.monotonic();
        let Some(patience) = self.fetcher.borrow_mut().want(issuer, now) else {
            return Wait::Pointless;
        };
        let waiter = Waiter {
            since: *since.get_or_insert(now),
            deadline: now.saturating_add(patience),
            context_id,
            exchange,
        };
        let taken = self.waiting.borrow_mut().add(issuer, waiter);
        if taken { Wait::Begun } else { Wait::Full }
    }

    /// Takes note of fetches that ended: the requests that waited for them get their turns.
    pub(crate) fn keys_came(&self, fetched: &[Fetched]) {
        let mut waiting = self.waiting.borrow_mut();
        fetched.iter().for_each(|fetched| waiting.fetched(fetched));
    }

    /// Ends the wait of requests that have waited long enough.
    pub(crate) fn expire_waiting(&self) {
        self.waiting.borrow_mut().expire(ProxyClock.monotonic());
    }

    /// Resumes the requests whose turn it is. True if there are more.
    pub(crate) fn resume_waiting(&self) -> bool {
        let turn = self.waiting.borrow_mut().turn();
        for ready in turn {
            // The client may have gone: then there is nothing to act on, and calls would reach the root context.
            if hostcalls::set_effective_context(ready.context_id).is_ok() {
                let exchange = &ready.exchange;
                exchange.borrow_mut().keys_came(exchange, ready.older);
            }
        }
        self.waiting.borrow().is_behind()
    }

    /// Notes that the answer to a call is for this request.
    pub(crate) fn expect_answer(&self, token: u32, context_id: u32, exchange: &Rc<RefCell<Exchange>>) {
        let call = Call::new(context_id, exchange);
        self.calls.borrow_mut().insert(token, call);
    }

    /// Notes that word of the audit log is for this request.
    pub(crate) fn expect_record(&self, token: u32, context_id: u32, exchange: &Rc<RefCell<Exchange>>) {
        let call = Call::new(context_id, exchange);
        self.records.borrow_mut().insert(token, call);
    }

    /// Goes on with the request that the answer to a call is for.
    pub(crate) fn policy_answered(&self, token: u32, answer: Answer) {
        let call = self.calls.borrow_mut().remove(&token);
        if let Some(exchange) = call.and_then(Call::resume) {
            let callback = CallbackContext::Root(&exchange);
            exchange.borrow_mut().policy_answered(token, answer, callback);
        }
    }

    /// A call of the root context ended. False if it was not to the audit log.
    pub(crate) fn told(&self, token: u32, headers: usize, body_size: usize) -> bool {
        let Some(audit) = &self.audit else { return false };
        let record = self.records.borrow_mut().remove(&token);
        if record.is_none() && !audit.awaits(token) {
            return false;
        }
        // Read first: the buffer belongs to this callback, whichever context it is for.
        let response = IngestResponse::read(headers, body_size);
        match record {
            None => audit.call_ended(&response, self),
            Some(call) => {
                if let Some(exchange) = call.resume() {
                    exchange.borrow_mut().record_answered(token, &response);
                }
            }
        }
        true
    }
}
