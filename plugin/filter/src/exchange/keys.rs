//! The wait for an issuer's keys.

use std::rc::Rc;

use postern_gate::{PendingKeys, Step};
use proxy_wasm::types::Action;

use super::{CallbackContext, Exchange, State};
use crate::engine::Engine;
use crate::request::with_request;
use crate::worker::Wait;

impl Exchange {
    pub(super) fn wait_for_keys(&mut self, pending: PendingKeys, callback: CallbackContext) -> Action {
        let worker = Rc::clone(&self.worker);
        let handle = self.handle();
        match worker.wait_for_keys(pending.issuer(), handle, &mut self.needs_keys_since) {
            Wait::Begun => {
                self.state = State::Keys(pending);
                Action::Pause
            }
            Wait::Pointless => {
                let step = self.evaluate_with_keys(pending);
                self.carry_out(step, callback)
            }
            Wait::Full => {
                let engine = &worker.engine;
                let denial = engine.gate.refuse_without_keys(pending, &engine.ports());
                self.refuse(&denial)
            }
        }
    }

    pub(super) fn keys_arrived(&mut self, older: bool) {
        let State::Keys(mut pending) = std::mem::replace(&mut self.state, State::Open) else {
            return;
        };
        if older {
            pending = pending.may_wait_again();
        }
        let step = self.evaluate_with_keys(pending);
        self.resume(step, CallbackContext::Root);
    }

    fn evaluate_with_keys(&self, pending: PendingKeys) -> Option<Step> {
        let engine = &self.worker.engine;
        let Engine { gate, tables, .. } = engine;
        with_request(self.head_only, engine.needs_source, |request| {
            gate.resume_with_keys(pending, request, tables, &engine.ports())
        })
    }
}
