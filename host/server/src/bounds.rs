//! How many connections each listener may have.

use std::sync::Arc;

use postern_serve::{Address, ConnectionMetrics, Connections, Listener, Shares, raise_open_files};

use crate::metrics::Metrics;
use crate::settings::Settings;

/// The bounds of a host's listeners.
#[derive(Debug)]
pub(crate) struct Bounds {
    shares: Shares,
    metrics: ConnectionMetrics,
}

impl Bounds {
    /// Shares out the file descriptors that this process may have.
    pub(crate) fn new(settings: &Settings, addresses: &[Address], metrics: &Metrics) -> Self {
        let ours = ConnectionMetrics::default();
        metrics.register(|registry| ours.register(registry));
        let open_files = raise_open_files();
        let tcp = addresses
            .iter()
            .filter(|address| matches!(address, Address::Tcp(_)))
            .count();
        let local = addresses.len() - tcp + usize::from(settings.admin.is_some());
        // A decision may ask another server.
        let shares = Shares::of(open_files, settings.concurrency, settings.connections, tcp, local);
        let least = if tcp > 0 {
            shares.tcp.min(shares.local)
        } else {
            shares.local
        };
        if least < settings.connections {
            tracing::warn!(
                open_files,
                connections = settings.connections,
                tcp = shares.tcp,
                local = shares.local,
                "fewer connections for each listener than the settings want: raise the limit of open files \
                 (ulimit -n, LimitNOFILE=)"
            );
        }
        Self {
            shares,
            metrics: ours,
        }
    }

    /// Those of a listener for gates.
    pub(crate) fn of_gates(&self, listener: &Listener) -> Arc<Connections> {
        if listener.is_unix() {
            self.connections(listener, self.shares.local)
        } else {
            self.connections(listener, self.shares.tcp)
        }
    }

    /// Those of the listener for operators, whom only this machine reaches.
    pub(crate) fn of_operators(&self, listener: &Listener) -> Arc<Connections> {
        self.connections(listener, self.shares.local)
    }

    fn connections(&self, listener: &Listener, most: usize) -> Arc<Connections> {
        let name = listener
            .address()
            .map_or_else(String::new, |address| address.to_string());
        Connections::new(&name, most, &self.metrics)
    }
}
