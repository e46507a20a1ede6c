//! What is counted and measured of signing.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::breaker::BreakerState;
use crate::mode::Mode;

/// In seconds: an HSM at hand signs within a millisecond, the deadline is two seconds.
const BUCKETS: [f64; 14] = [
    100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignatureLabels {
    signer: String,
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    code: &'static str,
}

/// What is counted and measured. A clone counts into the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    latency: Histogram,
    signatures: Family<SignatureLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    retries: Counter,
    breaker: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            latency: Histogram::new(BUCKETS),
            signatures: Family::default(),
            failures: Family::default(),
            retries: Counter::default(),
            breaker: Gauge::default(),
        }
    }

    /// Adds them to a registry, under names that begin with `signing_`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time from a request for a signature to its answer, verified or not, retries included";
        registry.register_with_unit("signing_latency", help, Unit::Seconds, self.latency.clone());
        let help = "Signatures that were verified and handed on, by signer and mode (proxy, development)";
        registry.register("signing_signatures", help, self.signatures.clone());
        let help = "Requests for a signature that got none, by reason";
        registry.register("signing_failures", help, self.failures.clone());
        let help = "Attempts at a signature after a first one that got no answer";
        registry.register("signing_retries", help, self.retries.clone());
        let help = "The circuit breaker of the signing proxy: 0 closed, 1 trying one request, 2 open";
        registry.register("signing_breaker", help, self.breaker.clone());
    }

    pub(crate) fn signed(&self, signer: &str, mode: Mode, took: Duration) {
        self.latency.observe(took.as_secs_f64());
        let labels = SignatureLabels {
            signer: signer.to_owned(),
            mode: mode.name(),
        };
        self.signatures.get_or_create(&labels).inc();
    }

    pub(crate) fn failed(&self, code: &'static str, took: Duration) {
        self.latency.observe(took.as_secs_f64());
        self.failures.get_or_create(&FailureLabels { code }).inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }
}
