//! The call to the policy host.

use std::rc::Rc;

use postern_gate::{Consultation, PendingPolicy, PendingResponse, PolicyResponse, RequestDetails, Step};
use proxy_wasm::types::Action;

use super::{CallbackContext, Exchange, State};
use crate::engine::Engine;
use crate::ext_authz;
use crate::ingest::Fields;
use crate::request::{property, read_body, trace, with_request};

impl Exchange {
    /// Consults the policy: its decision is cached, or the policy host is called.
    pub(super) fn consult(&mut self, pending: PendingPolicy, callback: CallbackContext) -> Action {
        let worker = Rc::clone(&self.worker);
        let body = if pending.sends_body() {
            read_body(0, self.body.size)
        } else {
            Vec::new()
        };
        if pending.sends_body() && body.len() < self.body.size {
            return self.fail();
        }
        let protocol = property(["request", "protocol"]);
        let details = RequestDetails {
            protocol: protocol.as_deref(),
            body: &body,
        };
        let Engine { gate, tables, .. } = &worker.engine;
        let consultation = with_request(self.head_only, true, |request| {
            let ports = worker.engine.ports();
            let consultation = gate.consult(pending, request, &details, tables, &ports);
            let trace = match &consultation {
                Consultation::Decided(_) => Fields::new(),
                Consultation::Call(..) => trace(request),
            };
            (consultation, trace)
        });
        match consultation {
            Some((Consultation::Decided(step), _)) => self.carry_out(Some(step), callback),
            Some((Consultation::Call(pending, message), trace)) => {
                self.call_policy(pending, &message, &trace, callback)
            }
            None => self.fail(),
        }
    }

    fn call_policy(
        &mut self,
        pending: PendingResponse,
        message: &[u8],
        trace: &Fields,
        callback: CallbackContext,
    ) -> Action {
        let worker = Rc::clone(&self.worker);
        let Some(host) = worker.engine.policy_host() else {
            return self.fail();
        };
        match ext_authz::call(host, message, trace) {
            Ok(token) => {
                if callback == CallbackContext::Root {
                    worker.expect_policy(token, self.handle());
                }
                self.state = State::Policy { pending, token };
                Action::Pause
            }
            Err(unavailable) => {
                let step = self.evaluate_response(pending, unavailable);
                self.carry_out(step, callback)
            }
        }
    }

    pub(super) fn policy_responded(
        &mut self,
        token: u32,
        response: PolicyResponse,
        callback: CallbackContext,
    ) {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Policy {
                pending,
                token: expected,
            } if token == expected => {
                let step = self.evaluate_response(pending, response);
                self.resume(step, callback);
            }
            other => self.state = other,
        }
    }

    fn evaluate_response(&self, pending: PendingResponse, response: PolicyResponse) -> Option<Step> {
        let engine = &self.worker.engine;
        let Engine { gate, tables, .. } = engine;
        with_request(self.head_only, true, |request| {
            gate.resume_with_response(pending, response, request, tables, &engine.ports())
        })
    }
}
