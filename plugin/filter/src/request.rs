//! Reads of the current request from the proxy.

use postern_gate::Request;
use postern_gate::audit::TraceContext;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::abi;
use crate::ingest::Fields;

/// Reads the request's head and passes it on. `None` if it cannot be read.
pub(crate) fn with_request<T>(
    end_of_stream: bool,
    needs_source: bool,
    evaluate: impl FnOnce(&Request<'_>) -> T,
) -> Option<T> {
    let block = abi::request_headers()?;
    let headers = block.parse()?;
    let source = if needs_source {
        property(["source", "address"])
    } else {
        None
    };
    Some(evaluate(&Request {
        headers: &headers,
        source: source.as_deref(),
        end_of_stream,
    }))
}

pub(crate) fn property(path: [&str; 2]) -> Option<String> {
    let bytes = hostcalls::get_property(path.to_vec()).ok().flatten()?;
    String::from_utf8(bytes).ok()
}

/// A part of the body that the proxy buffers. Shorter than `size` if the proxy has less.
pub(crate) fn read_body(start: usize, size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    let part = hostcalls::get_buffer(BufferType::HttpRequestBody, start, size);
    part.ok().flatten().unwrap_or_default()
}

/// The request's trace context, as headers of a call.
pub(crate) fn trace(request: &Request<'_>) -> Fields {
    let trace = TraceContext::of(request);
    trace
        .headers()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}
