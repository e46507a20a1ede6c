//! A request's way through the gate's steps.

mod audit;
mod policy;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postern_gate::ports::{Event, Metrics as _};
use postern_gate::{Allowance, Denial, Effects, Need, Pending, Request, Step};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::audit::IngestResponse;
use crate::request_record::RequestRecord;
use crate::worker::{Wait, Worker};
use crate::{abi, effects, ext_authz};

/// The proxy's handle on a request.
pub(crate) struct Http(Rc<RefCell<Exchange>>);

impl Http {
    pub(crate) fn new(context_id: u32, worker: Option<Rc<Worker>>) -> Self {
        let exchange = Exchange {
            context_id,
            worker,
            state: State::Open,
            head_only: false,
            body: Body::default(),
            asked_for_keys: None,
            response: Vec::new(),
            policy: None,
            record: None,
        };
        Self(Rc::new(RefCell::new(exchange)))
    }
}

/// A request and where it stands.
pub(crate) struct Exchange {
    context_id: u32,
    worker: Option<Rc<Worker>>,
    state: State,
    /// No body follows the headers.
    head_only: bool,
    body: Body,
    /// When the request first asked for keys.
    asked_for_keys: Option<Duration>,
    /// Headers for the response.
    response: Vec<(&'static str, String)>,
    /// What a policy wants changed in the response.
    policy: Option<Box<Allowance>>,
    /// What the audit log will be told, if it is told.
    record: Option<RequestRecord>,
}

/// The body as far as the proxy holds it for a request that waits.
#[derive(Default)]
struct Body {
    size: usize,
    complete: bool,
}

enum State {
    /// Not decided yet, or admitted: what follows of the request may pass.
    Open,
    /// Waits for its whole body, of which so many bytes were passed to the gate.
    Body { pending: Pending, taken: usize },
    /// Waits for keys.
    Keys(Pending),
    /// Waits for a policy's answer, to the call with this token.
    Policy { pending: Pending, token: u32 },
    /// Waits for the audit log's answer, to the call with this token.
    Audit { pending: Pending, token: u32 },
    /// Answered in the upstream's place.
    Refused,
}

/// In whose callback a step is carried out: there the answers to its calls will come.
#[derive(Clone, Copy)]
pub(crate) enum CallbackContext<'a> {
    Stream,
    Root(&'a Rc<RefCell<Exchange>>),
}

impl Context for Http {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let answer = ext_authz::answer(status, size);
        self.0
            .borrow_mut()
            .policy_answered(token, answer, CallbackContext::Stream);
    }

    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let response = IngestResponse::read(headers, body_size);
        self.0.borrow_mut().record_answered(token, &response);
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let mut exchange = self.0.borrow_mut();
        let Some(worker) = exchange.worker.clone() else {
            return exchange.fail();
        };
        exchange.head_only = end_of_stream;
        exchange.record = RequestRecord::begin(&worker);
        let step = with_request(end_of_stream, worker.needs_source, |request| {
            if let Some(record) = &mut exchange.record {
                record.read(request);
            }
            worker.gate.begin(request, &worker.tables, &worker.ports())
        });
        exchange.act(step, &self.0, CallbackContext::Stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.0.borrow_mut().body(size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let mut exchange = self.0.borrow_mut();
        exchange.strip_trailers();
        // Trailers end the body without telling the body callback.
        let size = exchange.body.size;
        exchange.body(size, true)
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let mut exchange = self.0.borrow_mut();
        exchange.tell_response();
        for (name, value) in exchange.response.drain(..) {
            // Added: an upstream may have limits of its own, and both fields are lists.
            let _ = hostcalls::add_map_value_bytes(MapType::HttpResponseHeaders, name, value.as_bytes());
        }
        if let Some(policy) = exchange.policy.take() {
            effects::change(MapType::HttpResponseHeaders, &policy.response);
        }
        Action::Continue
    }
}

/// Reads the request's head and hands it to the gate; nothing if it cannot be read.
fn with_request<T>(
    end_of_stream: bool,
    needs_source: bool,
    decide: impl FnOnce(&Request<'_>) -> T,
) -> Option<T> {
    let block = abi::request_headers()?;
    let headers = block.parse()?;
    let source = if needs_source {
        property(["source", "address"])
    } else {
        None
    };
    Some(decide(&Request {
        headers: &headers,
        source: source.as_deref(),
        end_of_stream,
    }))
}

fn property(path: [&str; 2]) -> Option<String> {
    let bytes = hostcalls::get_property(path.to_vec()).ok().flatten()?;
    String::from_utf8(bytes).ok()
}

impl Exchange {
    /// Carries out a step that may need keys.
    fn act(&mut self, step: Option<Step>, this: &Rc<RefCell<Self>>, callback: CallbackContext<'_>) -> Action {
        match step {
            Some(Step::Need(Need::Keys { issuer }, pending)) => {
                self.need_keys(issuer, pending, this, callback)
            }
            step => self.settle(step, callback),
        }
    }

    /// Carries out a step that needs no keys.
    fn settle(&mut self, step: Option<Step>, callback: CallbackContext<'_>) -> Action {
        match step {
            Some(Step::Continue(effects)) => self.admit(effects),
            Some(Step::Deny(denial)) => self.refuse(&denial),
            Some(Step::Need(Need::Body { .. }, pending)) => {
                self.state = State::Body { pending, taken: 0 };
                // Some or all of it may be here already, if the request has waited before.
                self.take_body(callback)
            }
            Some(Step::Need(Need::Policy, pending)) => self.consult(pending, callback),
            Some(Step::Need(Need::Audit, pending)) => self.record(pending, callback),
            // Keys are asked for while the caller is authenticated, and never after that.
            Some(Step::Need(Need::Keys { .. }, _)) | None => self.fail(),
        }
    }

    fn need_keys(
        &mut self,
        issuer: usize,
        pending: Pending,
        this: &Rc<RefCell<Self>>,
        callback: CallbackContext<'_>,
    ) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let asked = &mut self.asked_for_keys;
        match worker.wait_for_keys(issuer, self.context_id, Rc::downgrade(this), asked) {
            Wait::Begun => {
                self.state = State::Keys(pending);
                Action::Pause
            }
            Wait::Pointless => {
                let step = self.resume(&worker, pending);
                self.settle(step, callback)
            }
            Wait::Full => {
                let denial = worker
                    .gate
                    .refuse(pending, Denial::keys_unavailable(), &worker.ports());
                self.refuse(&denial)
            }
        }
    }

    fn resume(&self, worker: &Worker, pending: Pending) -> Option<Step> {
        with_request(self.head_only, worker.needs_source, |request| {
            worker
                .gate
                .resume(pending, request, &worker.tables, &worker.ports())
        })
    }

    /// The wait for keys is over, with keys or without; `older`: with keys that may be older than this request. Called
    /// with this request as the effective context.
    pub(crate) fn keys_came(&mut self, this: &Rc<RefCell<Self>>, older: bool) {
        let State::Keys(mut pending) = std::mem::replace(&mut self.state, State::Open) else {
            return;
        };
        let Some(worker) = self.worker.clone() else { return };
        if older {
            pending.may_need_newer_keys();
        }
        let step = self.resume(&worker, pending);
        if self.act(step, this, CallbackContext::Root(this)) == Action::Continue {
            let _ = hostcalls::resume_http_request();
        }
    }

    fn body(&mut self, size: usize, complete: bool) -> Action {
        if matches!(self.state, State::Open) {
            return Action::Continue;
        }
        self.body.size = size;
        self.body.complete |= complete;
        self.take_body(CallbackContext::Stream)
    }

    /// Passes on to the gate what is new of the body, if the gate waits for it.
    fn take_body(&mut self, callback: CallbackContext<'_>) -> Action {
        let State::Body { pending, taken } = &mut self.state else {
            return Action::Pause;
        };
        // The proxy holds the body and shows all of it each time: only what is new is passed on.
        let new = self.body.size.saturating_sub(*taken);
        let part = read_body(*taken, new);
        *taken = taken.saturating_add(part.len());
        if part.len() < new {
            return self.fail();
        }
        if let Err(denial) = pending.body(&part) {
            return self.refuse_body(denial);
        }
        if self.body.complete {
            self.body_complete(callback)
        } else {
            Action::Pause
        }
    }

    fn body_complete(&mut self, callback: CallbackContext<'_>) -> Action {
        let State::Body { pending, .. } = std::mem::replace(&mut self.state, State::Open) else {
            return self.fail();
        };
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let step = self.resume(&worker, pending);
        self.settle(step, callback)
    }

    /// Some upstreams merge trailers into the headers: what may not come there may not come here.
    fn strip_trailers(&self) {
        let block = abi::request_trailers();
        let trailers = block
            .as_ref()
            .and_then(abi::HeaderBlock::parse)
            .unwrap_or_default();
        for name in self
            .worker
            .iter()
            .flat_map(|worker| worker.gate.reserved_among(&trailers))
        {
            let _ = hostcalls::remove_map_value(MapType::HttpRequestTrailers, &name);
        }
    }

    fn refuse_body(&mut self, denial: Denial) -> Action {
        let State::Body { pending, .. } = std::mem::replace(&mut self.state, State::Refused) else {
            return Action::Pause;
        };
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let denial = worker.gate.refuse(pending, denial, &worker.ports());
        self.refuse(&denial)
    }

    fn admit(&mut self, effects: Effects) -> Action {
        effects::apply(&effects);
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
        let own = denial
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let status = denial.status();
        let details = denial.details();
        if let Some(reply) = &denial.reply {
            let fields = reply
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice()));
            let fields: Vec<_> = fields.chain(own).collect();
            abi::send_local_reply(status, denial.grpc_status(), &details, &fields, &reply.body);
            return Action::Pause;
        }
        let body = with_request(self.head_only, false, |request| {
            // The proxy makes `grpc-message` of it.
            (!request.is_grpc()).then(|| denial.body(request.id()))
        });
        let (form, body) = match body {
            Some(None) => (None, denial.reason.sentence().to_owned()),
            Some(Some(body)) => (Some(Denial::CONTENT_TYPE), body),
            None => (Some(Denial::CONTENT_TYPE), denial.body(None)),
        };
        let form = form.map(|form| ("content-type", form.as_bytes()));
        let fields: Vec<_> = form.into_iter().chain(own).collect();
        abi::send_local_reply(status, denial.grpc_status(), &details, &fields, &body);
        Action::Pause
    }

    /// Refuses because the gate could not be asked.
    fn fail(&mut self) -> Action {
        let denial = Denial::gate_failed();
        if let Some(worker) = &self.worker {
            worker.counters.note(&Event::Refused {
                rule: None,
                reason: denial.reason,
            });
        }
        self.refuse(&denial)
    }
}

/// A part of the body that the proxy holds; what it does not show is missing.
fn read_body(start: usize, size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    let part = hostcalls::get_buffer(BufferType::HttpRequestBody, start, size);
    part.ok().flatten().unwrap_or_default()
}
