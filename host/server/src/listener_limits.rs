//! Connection limits of the listeners.

use std::sync::Arc;

use postern_serve::{Address, ConnectionMetrics, ConnectionQuota, Connections, Listener, raise_open_files};

use crate::metrics::Metrics;
use crate::settings::Settings;

/// The connection limits of all listeners of a host.
#[derive(Debug)]
pub(crate) struct ListenerLimits {
    quota: ConnectionQuota,
    metrics: ConnectionMetrics,
}

impl ListenerLimits {
    /// Divides the file descriptors of this process among the listeners.
    pub(crate) fn new(settings: &Settings, addresses: &[Address], metrics: &Metrics) -> Self {
        let connection_metrics = ConnectionMetrics::default();
        metrics.register(|registry| connection_metrics.register(registry));
        let open_files = raise_open_files();
        let tcp = addresses
            .iter()
            .filter(|address| matches!(address, Address::Tcp(_)))
            .count();
        let local = addresses.len() - tcp + usize::from(settings.admin.is_some());
        // Each decision may open a connection to another server.
        let quota =
            ConnectionQuota::allocate(open_files, settings.concurrency, settings.connections, tcp, local);
        let smallest = if tcp > 0 {
            quota.tcp.min(quota.local)
        } else {
            quota.local
        };
        if smallest < settings.connections {
            tracing::warn!(
                open_files,
                connections = settings.connections,
                tcp = quota.tcp,
                local = quota.local,
                "fewer connections for each listener than configured: raise the limit of open files \
                 (ulimit -n, LimitNOFILE=)"
            );
        }
        Self {
            quota,
            metrics: connection_metrics,
        }
    }

    /// The connections of a listener for gates.
    pub(crate) fn for_gates(&self, listener: &Listener) -> Arc<Connections> {
        if listener.is_unix() {
            self.connections(listener, self.quota.local)
        } else {
            self.connections(listener, self.quota.tcp)
        }
    }

    /// The connections of the listener for operators, which only this machine reaches.
    pub(crate) fn for_operators(&self, listener: &Listener) -> Arc<Connections> {
        self.connections(listener, self.quota.local)
    }

    fn connections(&self, listener: &Listener, limit: usize) -> Arc<Connections> {
        let name = listener
            .address()
            .map_or_else(String::new, |address| address.to_string());
        Connections::new(&name, limit, &self.metrics)
    }
}
