//! A policy's part in a request's way.

use postern_gate::{Answer, Consultation, Facts, Pending};
use proxy_wasm::hostcalls;
use proxy_wasm::types::Action;

use super::{CallbackContext, Exchange, State, audit, property, read_body, with_request};
use crate::audit::Fields;
use crate::ext_authz;
use crate::worker::Worker;

/// What is sent to a policy.
struct Question {
    message: Vec<u8>,
    trace: Fields,
}

impl Exchange {
    /// Asks the policy, unless an answer is at hand.
    pub(super) fn consult(&mut self, pending: Pending, callback: CallbackContext<'_>) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let shown = worker.gate.policy_of(&pending).is_some_and(|(_, shown)| shown);
        let size = self.body.size;
        let body = if shown { read_body(0, size) } else { Vec::new() };
        if shown && body.len() < size {
            return self.fail();
        }
        let protocol = property(["request", "protocol"]);
        let facts = Facts {
            protocol: protocol.as_deref(),
            body: &body,
        };
        let consulted = with_request(self.head_only, true, |request| {
            let consulted = worker
                .gate
                .consult(pending, request, &facts, &worker.tables, &worker.ports());
            let asks = matches!(consulted, Consultation::Ask(..));
            let trace = if asks { audit::trace(request) } else { Vec::new() };
            (consulted, trace)
        });
        match consulted {
            Some((Consultation::Settled(step), _)) => self.settle(Some(step), callback),
            Some((Consultation::Ask(pending, message), trace)) => {
                self.ask(&worker, pending, &Question { message, trace }, callback)
            }
            None => self.fail(),
        }
    }

    fn ask(
        &mut self,
        worker: &Worker,
        pending: Pending,
        question: &Question,
        callback: CallbackContext<'_>,
    ) -> Action {
        let Some(host) = worker.gate.policy_host() else {
            return self.fail();
        };
        match ext_authz::ask(host, &question.message, &question.trace) {
            Ok(token) => {
                if let CallbackContext::Root(this) = callback {
                    worker.expect_answer(token, self.context_id, this);
                }
                self.state = State::Policy { pending, token };
                Action::Pause
            }
            Err(answer) => self.answered(pending, answer, callback),
        }
    }

    /// The policy answered, or cannot be asked.
    fn answered(&mut self, pending: Pending, answer: Answer, callback: CallbackContext<'_>) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let step = with_request(self.head_only, true, |request| {
            worker
                .gate
                .answered(pending, answer, request, &worker.tables, &worker.ports())
        });
        self.settle(step, callback)
    }

    /// The answer to a call came. Called with this request as the effective context.
    pub(crate) fn policy_answered(&mut self, token: u32, answer: Answer, callback: CallbackContext<'_>) {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Policy {
                pending,
                token: expected,
            } if token == expected => {
                if self.answered(pending, answer, callback) == Action::Continue {
                    let _ = hostcalls::resume_http_request();
                }
            }
            other => self.state = other,
        }
    }
}
