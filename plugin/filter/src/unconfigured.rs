//! The filter while it has no configuration: it refuses every request.

use postern_gate::Denial;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::reply;

pub(crate) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        reply::send(&Denial::gate_failed(), end_of_stream);
        Action::Pause
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        Action::Pause
    }
}
