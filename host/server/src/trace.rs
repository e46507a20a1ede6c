//! Spans that continue the caller's trace (W3C Trace Context).
//!
//! Spans have their own target: if nothing collects them, none are created and requests cost nothing extra.

use http::HeaderMap;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of spans.
pub const TARGET: &str = "postern_trace";

struct HeaderExtractor<'a>(&'a HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Creates a span for a request with these headers.
pub(crate) fn span(name: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(target: TARGET, "serve", otel.name = name, otel.kind = "server");
    if !span.is_disabled() {
        let parent =
            global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)));
        // Fails only for a span that is closed or belongs to no layer.
        let _ = span.set_parent(parent);
    }
    span
}
