//! Counts and limits the connections of listeners.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How often a full listener is reported in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

/// Connection metrics of all listeners.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Family<ListenerLabels, Gauge>,
    limit: Family<ListenerLabels, Gauge>,
    refused: Family<ListenerLabels, Counter>,
}

impl ConnectionMetrics {
    /// Registers `connections`, `connections_limit` and `connections_refused_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections by listener", self.open.clone());
        let help = "Maximum connections by listener";
        registry.register("connections_limit", help, self.limit.clone());
        let help = "Connections closed at once because their listener was at its limit";
        registry.register("connections_refused", help, self.refused.clone());
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub struct Connections {
    listener: String,
    limit: usize,
    count: AtomicUsize,
    open: Gauge,
    refused: Counter,
    /// When it was last logged that the listener is full, and how many connections were refused since.
    last_logged: Mutex<(Option<Instant>, u64)>,
}

/// An open connection; counted until dropped.
#[derive(Debug)]
pub struct Connection(Arc<Connections>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.open.dec();
    }
}

impl Connections {
    /// Allows `limit` connections of the listener of this name.
    #[must_use]
    pub fn new(listener: &str, limit: usize, metrics: &ConnectionMetrics) -> Arc<Self> {
        let label = ListenerLabels {
            listener: listener.to_owned(),
        };
        let gauge = metrics.limit.get_or_create(&label);
        gauge.set(i64::try_from(limit).unwrap_or(i64::MAX));
        drop(gauge);
        let open = metrics.open.get_or_create(&label).clone();
        let refused = metrics.refused.get_or_create(&label).clone();
        Arc::new(Self {
            listener: listener.to_owned(),
            limit,
            count: AtomicUsize::new(0),
            open,
            refused,
            last_logged: Mutex::default(),
        })
    }

    /// Registers a new connection; `None` at the limit.
    pub fn enter(self: &Arc<Self>) -> Option<Connection> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.refuse(Instant::now());
            return None;
        }
        self.open.inc();
        Some(Connection(Arc::clone(self)))
    }

    fn refuse(&self, now: Instant) {
        self.refused.inc();
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, refused) = &mut *last_logged;
        *refused += 1;
        if at.is_some_and(|at| now.saturating_duration_since(at) < LOG_INTERVAL) {
            return;
        }
        *at = Some(now);
        let refused = std::mem::take(refused);
        tracing::warn!(
            listener = self.listener,
            connections = self.limit,
            refused,
            "connections refused: the listener is at its limit; see `connections`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_past_the_bound_are_refused_until_one_ends() {
        let metrics = ConnectionMetrics::default();
        let connections = Connections::new("tcp://127.0.0.1:1", 2, &metrics);
        let first = connections.enter().unwrap();
        let _second = connections.enter().unwrap();
        assert!(connections.enter().is_none() && connections.enter().is_none());
        assert_eq!((connections.open.get(), connections.refused.get()), (2, 2));
        drop(first);
        assert!(connections.enter().is_some());
        assert_eq!(connections.open.get(), 1);
    }
}
