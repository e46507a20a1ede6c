//! The client of the policy host's audit log: it sends admissions one at a time, before their release, and all other
//! events in batches.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use postern_gate::Gate;
use postern_gate::audit::{
    Audit, AuditEvent, DecisionContext, EventMeta, Queue, RequestHead, RequestOutcome, encode_single,
};
use postern_gate::ports::Clock;
use proxy_wasm::hostcalls;

use crate::engine::Engine;
use crate::ingest::{Fields, IngestResponse, post};
use crate::ports::ProxyClock;

/// No request waits for a batch, so that it may take longer than an admission.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// The events that the last configuration of this VM did not send.
    static UNSENT: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

/// One worker's client.
pub(crate) struct AuditClient {
    settings: Audit,
    queue: RefCell<Queue>,
    /// The token of the batch in flight.
    call: Cell<Option<u32>>,
    /// The proxy's name.
    gateway: Option<String>,
}

impl AuditClient {
    /// A client, if the gate's decisions are recorded. To be called from the root context.
    pub(crate) fn new(gate: &Gate) -> Option<Self> {
        let settings = gate.audit()?.clone();
        let node = hostcalls::get_property(vec!["xds", "node", "id"]).ok().flatten();
        let gateway = node.and_then(|id| String::from_utf8(id).ok());
        Some(Self {
            queue: RefCell::new(Queue::new(settings.clone())),
            settings,
            call: Cell::new(None),
            gateway: gateway.filter(|id| !id.is_empty()),
        })
    }

    fn meta(&self) -> Option<EventMeta<'_>> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).ok()?;
        Some(EventMeta {
            random,
            time: ProxyClock.wall(),
            gateway: self.gateway.as_deref(),
        })
    }

    /// Queues the event of a request that ended; it arrived at `started`.
    pub(crate) fn record(
        &self,
        engine: &Engine,
        head: Option<&RequestHead>,
        context: &DecisionContext,
        outcome: RequestOutcome,
        started: Duration,
    ) {
        let now = ProxyClock.monotonic();
        let mut queue = self.queue.borrow_mut();
        let Some(meta) = self.meta() else {
            queue.count_lost();
            return engine.counters.count("postern.audit.lost");
        };
        let latency = now.saturating_sub(started);
        let event = engine.gate.event(head, context, outcome, Some(latency), &meta);
        if event.is_some_and(|event| !queue.push(event.to_json(), now)) {
            engine.counters.count("postern.audit.lost");
        }
    }

    /// Sends the admission of a request that is about to be released. Returns the call's token.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub(crate) fn send_admission(
        &self,
        engine: &Engine,
        head: Option<&RequestHead>,
        context: &DecisionContext,
        trace: &Fields,
    ) -> Result<u32, String> {
        let meta = self.meta().ok_or("the proxy gave no random bytes")?;
        let event = engine
            .gate
            .event(head, context, RequestOutcome::Admission, None, &meta)
            .ok_or("the rule's requests are not recorded")?;
        let host = engine.policy_host().ok_or("no host is configured")?;
        engine.counters.add("postern.audit.sent", 1);
        post(host, &encode_single(&event), trace, host.timeout)
    }

    /// Sends the batch that is due, if any. To be called with the root as the effective context.
    pub(crate) fn tick(&self, engine: &Engine) {
        if let Some(unsent) = UNSENT.take() {
            let lost = self.queue.borrow_mut().append(unsent, ProxyClock.monotonic());
            engine.counters.add("postern.audit.lost", lost);
        }
        self.send_batch(engine);
    }

    fn send_batch(&self, engine: &Engine) {
        let Some(host) = engine.policy_host() else {
            return;
        };
        let now = ProxyClock.monotonic();
        let Some(batch) = self.queue.borrow_mut().begin(now) else {
            return;
        };
        engine.counters.add("postern.audit.sent", batch.events as u64);
        if batch.is_retry {
            engine.counters.add("postern.audit.retried", batch.events as u64);
        }
        match post(host, &batch.body, &[], host.timeout.max(BATCH_TIMEOUT)) {
            Ok(token) => self.call.set(Some(token)),
            Err(why) => {
                self.queue.borrow_mut().fail(now);
                engine.counters.count("postern.audit.unreachable");
                engine.counters.warn(|| format!("the audit log: {why}"));
            }
        }
    }

    /// Whether this token is that of the batch in flight.
    pub(crate) fn awaits(&self, token: u32) -> bool {
        self.call.get() == Some(token)
    }

    /// Handles the response to the batch in flight. To be called with the root as the effective context.
    pub(crate) fn batch_ended(&self, response: &IngestResponse, engine: &Engine) {
        self.call.set(None);
        let now = ProxyClock.monotonic();
        let lost = {
            let mut queue = self.queue.borrow_mut();
            if response.confirms(queue.in_flight() as u64, &engine.counters) {
                queue.acknowledge()
            } else {
                queue.fail(now);
                None
            }
        };
        if let Some((count, meta)) = lost.zip(self.meta()) {
            let event = AuditEvent::lost(count, &meta);
            self.queue.borrow_mut().push(event.to_json(), now);
        }
        self.send_batch(engine);
    }
}

impl Drop for AuditClient {
    /// A configuration that is replaced leaves its unsent events to the next.
    fn drop(&mut self) {
        let queue = self.queue.replace(Queue::new(self.settings.clone()));
        if queue.is_empty() {
            return;
        }
        UNSENT.with_borrow_mut(|unsent| match unsent {
            None => *unsent = Some(queue),
            Some(unsent) => {
                unsent.append(queue, ProxyClock.monotonic());
            }
        });
    }
}
