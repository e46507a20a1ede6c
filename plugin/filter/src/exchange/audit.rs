//! The audit log's part in a request's way: before it is released, where the rule requires that, and at its end.

use postern_gate::audit::{DecisionContext, Trace};
use postern_gate::{Pending, Request};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, MapType};

use super::{CallbackContext, Exchange, State, with_request};
use crate::audit::{Fields, IngestResponse};

impl Exchange {
    /// Has the request recorded, and lets it wait for that.
    pub(super) fn record(&mut self, pending: Pending, callback: CallbackContext<'_>) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let trace = with_request(self.head_only, false, trace).unwrap_or_default();
        let announced = match &self.record {
            Some(record) => record.announce(&pending.context(), &trace),
            None => Err("no log is told".to_owned()),
        };
        match announced {
            Ok(token) => {
                if let CallbackContext::Root(this) = callback {
                    worker.expect_record(token, self.context_id, this);
                }
                self.state = State::Audit { pending, token };
                Action::Pause
            }
            Err(why) => {
                worker.counters.count("postern.audit.unreachable");
                worker.counters.complain(|| format!("the audit log: {why}"));
                self.recorded(pending, false)
            }
        }
    }

    fn recorded(&mut self, pending: Pending, durable: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return self.fail();
        };
        let step = worker.gate.recorded(pending, durable, &worker.ports());
        // Nothing more is asked for.
        self.settle(Some(step), CallbackContext::Stream)
    }

    /// The log's answer came. Called with this request as the effective context.
    pub(crate) fn record_answered(&mut self, token: u32, response: &IngestResponse) {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Audit {
                pending,
                token: expected,
            } if token == expected => {
                let durable = self
                    .worker
                    .as_ref()
                    .is_some_and(|worker| response.note(1, worker));
                if self.recorded(pending, durable) == Action::Continue {
                    let _ = hostcalls::resume_http_request();
                }
            }
            other => self.state = other,
        }
    }

    /// The response begins.
    pub(super) fn tell_response(&mut self) {
        let Some(record) = self.record.take() else { return };
        let status = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status");
        let status = status.ok().flatten();
        let status = status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
        record.ended(status, || self.state.context());
    }
}

impl Drop for Exchange {
    /// A request that ends without a response is told of too.
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.ended(None, || self.state.context());
        }
    }
}

impl State {
    fn context(&self) -> DecisionContext {
        match self {
            Self::Open | Self::Refused => DecisionContext::default(),
            Self::Keys(pending)
            | Self::Body { pending, .. }
            | Self::Policy { pending, .. }
            | Self::Audit { pending, .. } => pending.context(),
        }
    }
}

/// The request's trace context, as headers of a call.
pub(super) fn trace(request: &Request<'_>) -> Fields {
    let trace = Trace::of(request);
    trace
        .headers()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}
