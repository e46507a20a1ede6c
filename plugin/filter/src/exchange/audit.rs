//! The admission, recorded before the release where the rule requires it, and the record of the request's end.

use std::rc::Rc;

use postern_gate::{PendingAudit, Step};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, MapType};

use super::{CallbackContext, Exchange, State};
use crate::ingest::IngestResponse;
use crate::request::{trace, with_request};

impl Exchange {
    pub(super) fn send_admission(&mut self, pending: PendingAudit, callback: CallbackContext) -> Action {
        let worker = Rc::clone(&self.worker);
        let trace = with_request(self.head_only, false, trace).unwrap_or_default();
        let sent = match &self.record {
            Some(record) => record.send_admission(&pending.context(), &trace),
            None => Err("decisions are not recorded".to_owned()),
        };
        match sent {
            Ok(token) => {
                if callback == CallbackContext::Root {
                    worker.expect_admission(token, self.handle());
                }
                self.state = State::Audit { pending, token };
                Action::Pause
            }
            Err(why) => {
                let counters = &worker.engine.counters;
                counters.count("postern.audit.unreachable");
                counters.warn(|| format!("the audit log: {why}"));
                let step = self.evaluate_admission(pending, false);
                self.carry_out(Some(step), callback)
            }
        }
    }

    pub(super) fn audit_responded(&mut self, token: u32, response: &IngestResponse) {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Audit {
                pending,
                token: expected,
            } if token == expected => {
                let durable = response.confirms(1, &self.worker.engine.counters);
                let step = self.evaluate_admission(pending, durable);
                // The audit stage is the last: the step needs nothing more.
                self.resume(Some(step), CallbackContext::Request);
            }
            other => self.state = other,
        }
    }

    fn evaluate_admission(&self, pending: PendingAudit, durable: bool) -> Step {
        let engine = &self.worker.engine;
        engine.gate.resume_after_audit(pending, durable, &engine.ports())
    }

    pub(super) fn record_response(&mut self) {
        let Some(record) = self.record.take() else { return };
        let status = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status");
        let status = status.ok().flatten();
        let status = status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
        record.ended(status, || self.state.context());
    }
}

impl Drop for Exchange {
    /// Requests that end without a response are recorded as well.
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.ended(None, || self.state.context());
        }
    }
}
