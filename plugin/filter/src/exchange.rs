//! A request's way through the gate's steps.

use std::cell::RefCell;
use std::rc::Rc;

use postern_gate::ports::{Event, Metrics as _};
use postern_gate::{Denial, Effects, Need, Pending, Request, Step};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::abi;
use crate::worker::Worker;

/// The proxy's handle on a request.
pub(crate) struct Http(Rc<RefCell<Exchange>>);

impl Http {
    pub(crate) fn new(context_id: u32, worker: Option<Rc<Worker>>) -> Self {
        let exchange = Exchange {
            context_id,
            worker,
            state: State::Open,
            response: Vec::new(),
        };
        Self(Rc::new(RefCell::new(exchange)))
    }
}

/// A request and where it stands.
pub(crate) struct Exchange {
    context_id: u32,
    worker: Option<Rc<Worker>>,
    state: State,
    /// Headers for the response.
    response: Vec<(&'static str, String)>,
}

enum State {
    /// Not decided yet, or admitted: what follows of the request may pass.
    Open,
    /// Waits for its whole body, of which so many bytes were passed to the gate.
    Body { pending: Pending, taken: usize },
    /// Waits for keys.
    Keys(Pending),
    /// Answered in the upstream's place.
    Refused,
}

impl Context for Http {}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let mut exchange = self.0.borrow_mut();
        let Some(worker) = exchange.worker.clone() else {
            return exchange.fail();
        };
        let step = with_request(&worker, end_of_stream, |request| {
            worker.gate.begin(request, &worker.tables, &worker.ports())
        });
        exchange.act(step, &self.0)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.0.borrow_mut().body(size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let mut exchange = self.0.borrow_mut();
        exchange.strip_trailers();
        // Trailers end the body without telling the body callback.
        exchange.body_complete()
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for (name, value) in self.0.borrow_mut().response.drain(..) {
            // Added: an upstream may have limits of its own, and both fields are lists.
            let _ = hostcalls::add_map_value_bytes(MapType::HttpResponseHeaders, name, value.as_bytes());
        }
        Action::Continue
    }
}

/// Reads the request's head and hands it to the gate; no step if it cannot be read.
fn with_request(
    worker: &Worker,
    end_of_stream: bool,
    decide: impl FnOnce(&Request<'_>) -> Step,
) -> Option<Step> {
    let block = abi::request_headers()?;
    let headers = block.parse()?;
    let source = if worker.needs_source {
        hostcalls::get_property(vec!["source", "address"]).ok().flatten()
    } else {
        None
    };
    let source = source
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    Some(decide(&Request {
        headers: &headers,
        source,
        end_of_stream,
    }))
}

impl Exchange {
    fn act(&mut self, step: Option<Step>, this: &Rc<RefCell<Self>>) -> Action {
        match step {
            Some(Step::Need(Need::Keys { issuer }, pending)) => self.need_keys(issuer, pending, this),
            step => self.settle(step),
        }
    }

    /// Carries out a step that needs no keys.
    fn settle(&mut self, step: Option<Step>) -> Action {
        match step {
            Some(Step::Continue(effects)) => self.admit(effects),
            Some(Step::Deny(denial)) => self.refuse(&denial),
            Some(Step::Need(Need::Body { .. }, pending)) => {
                self.state = State::Body { pending, taken: 0 };
                Action::Pause
            }
            // Keys are asked for once a request; the gate never asks again.
            Some(Step::Need(Need::Keys { .. }, _)) | None => self.fail(),
        }
    }

    fn need_keys(&mut self, issuer: usize, pending: Pending, this: &Rc<RefCell<Self>>) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        if worker.wait_for_keys(issuer, self.context_id, Rc::downgrade(this)) {
            self.state = State::Keys(pending);
            return Action::Pause;
        }
        let step = self.resume(&worker, pending);
        self.settle(step)
    }

    fn resume(&self, worker: &Worker, pending: Pending) -> Option<Step> {
        with_request(worker, false, |request| {
            worker
                .gate
                .resume(pending, request, &worker.tables, &worker.ports())
        })
    }

    /// The wait for keys is over, with keys or without. Called with this request as the effective context.
    pub(crate) fn keys_came(&mut self) {
        let State::Keys(pending) = std::mem::replace(&mut self.state, State::Open) else {
            return;
        };
        let Some(worker) = self.worker.clone() else { return };
        let step = self.resume(&worker, pending);
        if self.settle(step) == Action::Continue {
            let _ = hostcalls::resume_http_request();
        }
    }

    fn body(&mut self, size: usize, end_of_stream: bool) -> Action {
        match &mut self.state {
            State::Open => return Action::Continue,
            State::Keys(_) | State::Refused => return Action::Pause,
            State::Body { pending, taken } => {
                // The proxy holds the body and shows all of it each time: only what is new is passed on.
                let new = size.saturating_sub(*taken);
                let part = if new == 0 {
                    None
                } else {
                    hostcalls::get_buffer(BufferType::HttpRequestBody, *taken, new)
                        .ok()
                        .flatten()
                };
                let part = part.unwrap_or_default();
                *taken = taken.saturating_add(part.len());
                if part.len() < new {
                    return self.fail();
                }
                if let Err(denial) = pending.body(&part) {
                    return self.refuse_body(denial);
                }
            }
        }
        if end_of_stream {
            self.body_complete()
        } else {
            Action::Pause
        }
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

    fn body_complete(&mut self) -> Action {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Open => Action::Continue,
            State::Body { pending, .. } => {
                let Some(worker) = self.worker.clone() else {
                    return self.fail();
                };
                let step = self.resume(&worker, pending);
                self.settle(step)
            }
            waiting => {
                self.state = waiting;
                Action::Pause
            }
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
        for name in &effects.strip {
            let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
        }
        for (name, value) in effects.identity.iter().flat_map(|identity| identity.headers()) {
            // Nothing can stand under these names any more: what the client sent was stripped above.
            let _ = hostcalls::add_map_value_bytes(MapType::HttpRequestHeaders, name, value.as_bytes());
        }
        self.response = effects.response;
        self.state = State::Open;
        Action::Continue
    }

    fn refuse(&mut self, denial: &Denial) -> Action {
        self.state = State::Refused;
        let block = abi::request_headers();
        let headers = block
            .as_ref()
            .and_then(abi::HeaderBlock::parse)
            .unwrap_or_default();
        let id = Request {
            headers: &headers,
            source: None,
            end_of_stream: false,
        }
        .id()
        .map(str::to_owned);
        let fields = denial.headers.iter().map(|(name, value)| (*name, &**value));
        let fields: Vec<_> = std::iter::once(("content-type", Denial::CONTENT_TYPE))
            .chain(fields)
            .collect();
        abi::send_local_reply(
            denial.reason.status(),
            &denial.details(),
            &fields,
            &denial.body(id.as_deref()),
        );
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
