//! A request and its response: carries out the gate's steps.

mod audit;
mod body;
mod keys;
mod policy;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use postern_gate::audit::DecisionContext;
use postern_gate::ports::{Observation, Observer as _};
use postern_gate::{
    Allowance, Denial, Effects, Need, PendingAudit, PendingBody, PendingKeys, PendingResponse,
    PolicyResponse, Step,
};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::engine::Engine;
use crate::ingest::IngestResponse;
use crate::request::with_request;
use crate::request_record::RequestRecord;
use crate::suspended::{RequestHandle, Suspended};
use crate::worker::Worker;
use crate::{ext_authz, headers, reply};

use body::BufferedBody;

/// The proxy's handle on a request.
pub(crate) struct Http(Rc<RefCell<Exchange>>);

impl Http {
    pub(crate) fn new(context_id: u32, worker: Rc<Worker>) -> Self {
        Self(Rc::new_cyclic(|this| {
            RefCell::new(Exchange {
                context_id,
                this: this.clone(),
                worker,
                state: State::Open,
                head_only: false,
                body: BufferedBody::default(),
                needs_keys_since: None,
                response: Vec::new(),
                policy: None,
                record: None,
            })
        }))
    }
}

/// A request and its state.
pub(crate) struct Exchange {
    context_id: u32,
    this: Weak<RefCell<Exchange>>,
    worker: Rc<Worker>,
    state: State,
    /// The request has no body.
    head_only: bool,
    body: BufferedBody,
    /// When the request first needed keys.
    needs_keys_since: Option<Duration>,
    /// Headers for the response.
    response: Vec<(&'static str, String)>,
    /// The policy's changes to the response.
    policy: Option<Box<Allowance>>,
    /// `None` if the request is not recorded, or was recorded already.
    record: Option<RequestRecord>,
}

enum State {
    /// Not decided yet, or admitted: the rest of the request may pass.
    Open,
    /// Waits for its whole body, of which so many bytes were passed to the gate.
    Body { pending: PendingBody, passed: usize },
    /// Waits for keys.
    Keys(PendingKeys),
    /// Waits for the policy's response to the call with this token.
    Policy { pending: PendingResponse, token: u32 },
    /// Waits for the audit log's response to the call with this token.
    Audit { pending: PendingAudit, token: u32 },
    /// Answered in the upstream's place.
    Refused,
}

/// The callback in which a step is carried out. Responses to its calls arrive in the same context.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallbackContext {
    Request,
    Root,
}

impl Context for Http {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let response = ext_authz::read_response(status, size);
        self.0
            .borrow_mut()
            .policy_responded(token, response, CallbackContext::Request);
    }

    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let response = IngestResponse::read(headers, body_size);
        self.0.borrow_mut().audit_responded(token, &response);
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.0.borrow_mut().begin(end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.0.borrow_mut().body_arrived(size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let mut exchange = self.0.borrow_mut();
        exchange.strip_trailers();
        // Trailers end the body without a call of the body callback.
        let size = exchange.body.size;
        exchange.body_arrived(size, true)
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.0.borrow_mut().respond();
        Action::Continue
    }
}

impl Suspended for RefCell<Exchange> {
    fn keys_arrived(self: Rc<Self>, older: bool) {
        self.borrow_mut().keys_arrived(older);
    }

    fn policy_responded(self: Rc<Self>, token: u32, response: PolicyResponse) {
        self.borrow_mut()
            .policy_responded(token, response, CallbackContext::Root);
    }

    fn audit_responded(self: Rc<Self>, token: u32, response: &IngestResponse) {
        self.borrow_mut().audit_responded(token, response);
    }
}

impl Exchange {
    fn begin(&mut self, end_of_stream: bool) -> Action {
        let worker = Rc::clone(&self.worker);
        self.head_only = end_of_stream;
        self.record = RequestRecord::begin(&worker);
        let Engine { gate, tables, .. } = &worker.engine;
        let step = with_request(end_of_stream, worker.engine.needs_source, |request| {
            if let Some(record) = &mut self.record {
                record.read(request);
            }
            gate.begin(request, tables, &worker.engine.ports())
        });
        self.carry_out(step, CallbackContext::Request)
    }

    /// Carries out a step; `None` if the request could not be read for it.
    fn carry_out(&mut self, step: Option<Step>, callback: CallbackContext) -> Action {
        match step {
            Some(Step::Continue(effects)) => self.admit(effects),
            Some(Step::Deny(denial)) => self.refuse(&denial),
            Some(Step::Need(Need::Keys(pending))) => self.wait_for_keys(pending, callback),
            Some(Step::Need(Need::Body(pending))) => {
                self.state = State::Body { pending, passed: 0 };
                // Some or all of the body may be buffered, if the request has waited before.
                self.pass_body(callback)
            }
            Some(Step::Need(Need::Policy(pending))) => self.consult(pending, callback),
            Some(Step::Need(Need::Audit(pending))) => self.send_admission(pending, callback),
            None => self.fail(),
        }
    }

    /// Carries out the step of a request that waited, and resumes it if it is admitted.
    fn resume(&mut self, step: Option<Step>, callback: CallbackContext) {
        if self.carry_out(step, callback) == Action::Continue {
            let _ = hostcalls::resume_http_request();
        }
    }

    fn handle(&self) -> RequestHandle {
        RequestHandle::new(self.context_id, self.this.clone())
    }

    fn admit(&mut self, effects: Effects) -> Action {
        headers::apply(&effects);
        if let Some(record) = &mut self.record {
            record.released(effects.context);
        }
        self.response = effects.response;
        self.policy = effects.policy;
        self.state = State::Open;
        Action::Continue
    }

    fn refuse(&mut self, denial: &Denial) -> Action {
        self.state = State::Refused;
        if let Some(record) = self.record.take() {
            record.refused(denial);
        }
        reply::send(denial, self.head_only);
        Action::Pause
    }

    /// Refuses a request that could not be evaluated.
    fn fail(&mut self) -> Action {
        let denial = Denial::gate_failed();
        self.worker.engine.counters.observe(&Observation::Refused {
            rule: None,
            reason: denial.reason,
        });
        self.refuse(&denial)
    }

    /// The response's headers arrive.
    fn respond(&mut self) {
        self.record_response();
        for (name, value) in self.response.drain(..) {
            // Added: the upstream may have limits of its own, and both fields are lists.
            let _ = hostcalls::add_map_value_bytes(MapType::HttpResponseHeaders, name, value.as_bytes());
        }
        if let Some(policy) = self.policy.take() {
            headers::change(MapType::HttpResponseHeaders, &policy.response);
        }
    }
}

impl State {
    fn context(&self) -> DecisionContext {
        match self {
            Self::Open | Self::Refused => DecisionContext::default(),
            Self::Keys(pending) => pending.context(),
            Self::Body { pending, .. } => pending.context(),
            Self::Policy { pending, .. } => pending.context(),
            Self::Audit { pending, .. } => pending.context(),
        }
    }
}
