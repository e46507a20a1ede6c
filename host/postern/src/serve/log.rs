//! The host's log on standard error, and the export of its spans to an OpenTelemetry collector.

use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::global;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use postern_serve::log::{self, LogSettings};
use postern_serve::{LogQueue, log_panics};
use postern_server::TRACE_TARGET;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Environment variables with the endpoint of a collector; without one, no spans are exported. The exporter reads its
/// other variables itself.
const ENDPOINT_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// How long sending the last spans may take.
const SPAN_FLUSH_TIMEOUT: Duration = Duration::from_millis(300);
/// How long writing the last lines may take.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// Writes log lines and collects spans; flushes both when dropped.
pub(crate) struct Tracing {
    lines: LogQueue,
    spans: Option<SdkTracerProvider>,
}

impl Drop for Tracing {
    fn drop(&mut self) {
        if let Some(provider) = self.spans.take() {
            // The error cannot be reported any more. The process ends, whether the collector responds or not.
            let _ = provider.shutdown_with_timeout(SPAN_FLUSH_TIMEOUT);
        }
        self.lines.finish(LOG_FLUSH_TIMEOUT);
    }
}

/// Starts the log, and the export of spans if the environment names a collector. Called within the runtime that runs
/// the export.
pub(crate) fn start(settings: LogSettings) -> Result<Tracing> {
    // A slow reader of the log must not block the host: the record of the host is the audit log.
    let (queue, lines) = log::stderr(
        settings,
        &["postern", "policy"],
        &[(TRACE_TARGET, LevelFilter::OFF)],
    )
    .context("the log cannot be started")?;
    let provider = provider()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("postern"))
            .with_filter(Targets::new().with_target(TRACE_TARGET, tracing::Level::INFO))
    });
    global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .context("the log cannot be started")?;
    log_panics();
    Ok(Tracing {
        lines: queue,
        spans: provider,
    })
}

/// Sends spans to the collector that the environment names (OTLP over gRPC); `None` if it names none.
fn provider() -> Result<Option<SdkTracerProvider>> {
    let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !ENDPOINT_VARIABLES.iter().any(named) {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT: spans cannot be sent there; write http://127.0.0.1:4317")?;
    let resource = Resource::builder().with_service_name("postern").build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}
