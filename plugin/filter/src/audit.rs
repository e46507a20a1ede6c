//! Telling the audit log of the policy host: one event at once and waiting for the answer, or many later.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use postern_gate::audit::{
    Audit, DecisionContext, Event, EventMeta, Head, Queue, RequestOutcome, durable, single,
};
use postern_gate::ports::Clock;
use postern_gate::{Gate, PolicyHost};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::ports::ProxyClock;
use crate::worker::Worker;

/// Nobody waits for a call with many events: it may take longer than one that holds a request up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The host is found by its cluster; a cluster's name need not be one that an authority can be.
const AUTHORITY: &str = "postern-host";

thread_local! {
    /// What the last configuration of this VM left untold.
    static LEFT: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

/// Headers that go with a call.
pub(crate) type Fields = Vec<(&'static str, String)>;

/// One worker's events on their way to the log.
pub(crate) struct AuditClient {
    settings: Audit,
    queue: RefCell<Queue>,
    /// The call with many events that is under way.
    call: Cell<Option<u32>>,
    /// The proxy's name.
    gateway: Option<String>,
}

impl AuditClient {
    /// One for this gate, if the log is told of it. To be called from the root context.
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

    /// Tells of a request that ended; it came at `started`.
    pub(crate) fn tell(
        &self,
        worker: &Worker,
        head: Option<&Head>,
        context: &DecisionContext,
        outcome: RequestOutcome,
        started: Duration,
    ) {
        let now = ProxyClock.monotonic();
        let mut queue = self.queue.borrow_mut();
        let Some(meta) = self.meta() else {
            queue.lose();
            return worker.counters.count("postern.audit.lost");
        };
        let latency = now.saturating_sub(started);
        let event = worker.gate.event(head, context, outcome, Some(latency), &meta);
        if event.is_some_and(|event| !queue.push(event.to_json(), now)) {
            worker.counters.count("postern.audit.lost");
        }
    }

    /// Tells at once that a request is about to be released. The call's token.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub(crate) fn announce(
        &self,
        worker: &Worker,
        head: Option<&Head>,
        context: &DecisionContext,
        trace: &Fields,
    ) -> Result<u32, String> {
        let meta = self.meta().ok_or("the proxy gave no random bytes")?;
        let event = worker
            .gate
            .event(head, context, RequestOutcome::Admission, None, &meta)
            .ok_or("the rule is not told of")?;
        let host = worker.gate.policy_host().ok_or("no host is configured")?;
        worker.counters.add("postern.audit.sent", 1);
        post(host, &single(&event), trace, host.timeout)
    }

    /// Begins the call that is due, if one is. To be called with the root as the effective context.
    pub(crate) fn tick(&self, worker: &Worker) {
        if let Some(left) = LEFT.take() {
            let lost = self.queue.borrow_mut().adopt(left, ProxyClock.monotonic());
            worker.counters.add("postern.audit.lost", lost);
        }
        self.send(worker);
    }

    fn send(&self, worker: &Worker) {
        let Some(host) = worker.gate.policy_host() else {
            return;
        };
        let now = ProxyClock.monotonic();
        let Some(batch) = self.queue.borrow_mut().begin(now) else {
            return;
        };
        worker.counters.add("postern.audit.sent", batch.events as u64);
        if batch.again {
            worker.counters.add("postern.audit.retried", batch.events as u64);
        }
        match post(host, &batch.body, &[], host.timeout.max(PATIENCE)) {
            Ok(token) => self.call.set(Some(token)),
            Err(why) => {
                self.queue.borrow_mut().failed(now);
                worker.counters.count("postern.audit.unreachable");
                worker.counters.complain(|| format!("the audit log: {why}"));
            }
        }
    }

    /// Whether the call with this token is under way from here.
    pub(crate) fn awaits(&self, token: u32) -> bool {
        self.call.get() == Some(token)
    }

    /// The call that was under way ended. To be called with the root as the effective context.
    pub(crate) fn call_ended(&self, response: &IngestResponse, worker: &Worker) {
        self.call.set(None);
        let now = ProxyClock.monotonic();
        let lost = {
            let mut queue = self.queue.borrow_mut();
            if response.note(queue.flying() as u64, worker) {
                queue.acknowledged()
            } else {
                queue.failed(now);
                None
            }
        };
        if let Some((count, meta)) = lost.zip(self.meta()) {
            let event = Event::lost(count, &meta);
            self.queue.borrow_mut().push(event.to_json(), now);
        }
        self.send(worker);
    }
}

impl Drop for AuditClient {
    /// A configuration that is replaced leaves what is untold to the next.
    fn drop(&mut self) {
        let queue = self.queue.replace(Queue::new(self.settings.clone()));
        if queue.is_empty() {
            return;
        }
        LEFT.with_borrow_mut(|left| match left {
            None => *left = Some(queue),
            Some(left) => {
                left.adopt(queue, ProxyClock.monotonic());
            }
        });
    }
}

/// What came of a call.
pub(crate) enum IngestResponse {
    /// So many events are durable.
    Durable(u64),
    /// Another answer: its status.
    Other(String),
    /// None in time.
    Nothing,
}

impl IngestResponse {
    /// Reads the answer to the call whose callback this is.
    pub(crate) fn read(headers: usize, body_size: usize) -> Self {
        // Without a response there is no header map, and the SDK's calls panic where there is none.
        if headers == 0 {
            return Self::Nothing;
        }
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
        let status = status.ok().flatten().unwrap_or_default();
        let body = if body_size == 0 || body_size > Audit::MAX_ANSWER {
            None
        } else {
            hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size)
                .ok()
                .flatten()
        };
        match durable(&status, &body.unwrap_or_default()) {
            Some(count) => Self::Durable(count),
            None => Self::Other(String::from_utf8_lossy(&status).into_owned()),
        }
    }

    /// Counts it. Whether it says that all of so many events are durable.
    pub(crate) fn note(&self, events: u64, worker: &Worker) -> bool {
        let counters = &worker.counters;
        match self {
            Self::Durable(count) if *count == events => {
                counters.add("postern.audit.acknowledged", events);
                return true;
            }
            Self::Durable(count) => {
                counters.count("postern.audit.refused.200");
                counters.complain(|| {
                    format!("the audit log: of {events} events it says that {count} are durable")
                });
            }
            Self::Other(status) => {
                // A status has three digits, or the answer is none of HTTP.
                let known = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
                let status = if known { status.as_str() } else { "none" };
                counters.count(&format!("postern.audit.refused.{status}"));
                counters.complain(|| format!("the audit log: the host answered {status}{}", meaning(status)));
            }
            Self::Nothing => {
                counters.count("postern.audit.unreachable");
                counters.complain(|| "the audit log: the host gave no answer in time".to_owned());
            }
        }
        false
    }
}

/// What to look at.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => " without saying what is durable: is this the policy host?",
        "400" | "413" | "415" | "422" => {
            ": it cannot read events of this gate; are both of the same version?"
        }
        "401" | "403" => ": it does not know this gate; is host.token the host's?",
        "404" | "405" => ": it keeps no audit log; is it switched on there?",
        "503" | "504" => ": it cannot hold them for now, or the proxy cannot reach it",
        _ => "",
    }
}

/// Sends events. The call's token.
///
/// # Errors
/// Why they cannot be sent.
fn post(
    host: &PolicyHost,
    body: &str,
    further: &[(&'static str, String)],
    timeout: Duration,
) -> Result<u32, String> {
    let mut headers = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", AUTHORITY),
        (":path", Audit::PATH),
        ("content-type", Audit::CONTENT_TYPE),
    ];
    headers.extend(host.authorization().map(|value| ("authorization", value)));
    headers.extend(further.iter().map(|(name, value)| (*name, value.as_str())));
    hostcalls::dispatch_http_call(&host.cluster, headers, Some(body.as_bytes()), vec![], timeout).map_err(
        |status| {
            format!(
                "cluster \"{}\" cannot be called ({status:?}); is it defined, and is anyone there?",
                host.cluster
            )
        },
    )
}
