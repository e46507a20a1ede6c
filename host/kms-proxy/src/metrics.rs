//! The metrics of the proxy, in the OpenMetrics text format.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_serve::{ConnectionMetrics, LogQueue};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::keyring::Keyring;

/// In seconds: a software token signs in fractions of a millisecond, one across a network in tens of milliseconds.
const BUCKETS: [f64; 15] = [
    100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignerLabels {
    signer: String,
}

pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<ResultLabels, Counter>,
    durations: Family<SignerLabels, Histogram, fn() -> Histogram>,
    wrong_signatures: Counter,
    sessions: Gauge,
    up: Gauge,
    log_up: Gauge,
    log_lost: Counter,
    connections: ConnectionMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("postern_kms_proxy");
        let requests = Family::<ResultLabels, Counter>::default();
        let durations: Family<SignerLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let (wrong_signatures, sessions, up) = (Counter::default(), Gauge::default(), Gauge::default());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This program", build);
        let help = "Requests by result: ok, the error code, or abandoned by the client";
        registry.register("requests", help, requests.clone());
        let help = "Time from a valid request to its verified signature, including the wait for a session";
        registry.register_with_unit("sign_duration", help, Unit::Seconds, durations.clone());
        let help = "Signatures of the token that failed verification and were withheld";
        registry.register("self_verification_failures", help, wrong_signatures.clone());
        let help = "Open sessions of the token";
        registry.register("sessions_open", help, sessions.clone());
        let help = "1 while the token responds and holds the current key";
        registry.register("token_up", help, up.clone());
        let (log_up, log_lost) = (Gauge::default(), Counter::default());
        let help = "1 while the log can be written; without it nothing is signed";
        registry.register("log_up", help, log_up.clone());
        let help = "Lost log lines: the reader stalled, or writing failed";
        registry.register("log_lines_lost", help, log_lost.clone());
        let connections = ConnectionMetrics::default();
        connections.register(&mut registry);
        Self {
            registry,
            requests,
            durations,
            wrong_signatures,
            sessions,
            up,
            log_up,
            log_lost,
            connections,
        }
    }

    /// The metrics of the listener's connections.
    pub(crate) fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// Counts a request by its result.
    pub(crate) fn request_completed(&self, result: &'static str) {
        self.requests.get_or_create(&ResultLabels { result }).inc();
    }

    /// Records the duration of a signature.
    pub(crate) fn signed(&self, signer: &str, took: Duration) {
        let signer = signer.to_owned();
        self.durations
            .get_or_create(&SignerLabels { signer })
            .observe(took.as_secs_f64());
    }

    /// Counts a signature that failed verification.
    pub(crate) fn wrong_signature(&self) {
        self.wrong_signatures.inc();
    }

    /// Encodes all metrics.
    pub(crate) fn text(&self, keyring: &Keyring, log: &LogQueue) -> String {
        self.sessions
            .set(i64::try_from(keyring.open_sessions()).unwrap_or(i64::MAX));
        self.up.set(i64::from(keyring.is_up()));
        self.log_up.set(i64::from(log.failure().is_none()));
        // Only the queue counts them.
        self.log_lost.inner().store(log.lost(), Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}
