//! The request's body, for a signature or a policy, and its trailers.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, MapType};

use super::{CallbackContext, Exchange, State};
use crate::abi;
use crate::engine::Engine;
use crate::request::{read_body, with_request};

/// What the proxy buffers of the body of a request that waits.
#[derive(Default)]
pub(super) struct BufferedBody {
    /// In bytes.
    pub(super) size: usize,
    complete: bool,
}

impl Exchange {
    pub(super) fn body_arrived(&mut self, size: usize, complete: bool) -> Action {
        if matches!(self.state, State::Open) {
            return Action::Continue;
        }
        self.body.size = size;
        self.body.complete |= complete;
        self.pass_body(CallbackContext::Request)
    }

    /// Passes the new part of the body to the gate, if the gate waits for it.
    pub(super) fn pass_body(&mut self, callback: CallbackContext) -> Action {
        let (pending, passed) = match std::mem::replace(&mut self.state, State::Open) {
            State::Body { pending, passed } => (pending, passed),
            other => {
                self.state = other;
                return Action::Pause;
            }
        };
        // The proxy shows the whole buffered body each time: only the new part is passed on.
        let new = self.body.size.saturating_sub(passed);
        let part = read_body(passed, new);
        if part.len() < new {
            return self.fail();
        }
        let worker = Rc::clone(&self.worker);
        let Engine { gate, tables, .. } = &worker.engine;
        let ports = worker.engine.ports();
        let pending = match gate.receive_body(pending, &part, &ports) {
            Ok(pending) => pending,
            Err(denial) => return self.refuse(&denial),
        };
        if !self.body.complete {
            let passed = passed.saturating_add(part.len());
            self.state = State::Body { pending, passed };
            return Action::Pause;
        }
        let step = with_request(self.head_only, worker.engine.needs_source, |request| {
            gate.resume_with_body(pending, request, tables, &ports)
        });
        self.carry_out(step, callback)
    }

    /// Strips identity headers: some upstreams merge trailers into the headers.
    pub(super) fn strip_trailers(&self) {
        let block = abi::request_trailers();
        let trailers = block
            .as_ref()
            .and_then(abi::HeaderBlock::parse)
            .unwrap_or_default();
        for name in self.worker.engine.gate.reserved_among(&trailers) {
            let _ = hostcalls::remove_map_value(MapType::HttpRequestTrailers, &name);
        }
    }
}
