//! Starts, reloads and stops the proxy.

use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use postern_serve::tls::{TlsError, server_config};
use postern_serve::{
    Address, ConnectionQuota, Connections, Limits, ListenError, Listener, LogQueue, Tasks, raise_open_files,
};
use postern_signers::format_key;

use crate::http::{self, AppState};
use crate::keyring::{Keyring, KeysError, Signer};
use crate::settings::{Keys, Settings};

/// Enough for a few hosts with a few connections each.
const MAX_CONNECTIONS: usize = 1024;
/// Limits of the listener.
pub(crate) const LIMITS: Limits = Limits {
    head_timeout: Duration::from_secs(10),
    max_streams: 256,
    stop_timeout: Duration::from_secs(10),
};
/// The settings section of the TLS files, for errors.
const TLS: &str = "tls";

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    state: AppState,
    settings: Settings,
    address: Address,
    tls: Option<RustlsConfig>,
    tasks: Tasks,
}

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("listen: {0}")]
    Listen(#[from] ListenError),
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl StartError {
    /// Whether a retry can only do harm until an operator has changed something: repeated attempts with a wrong PIN
    /// lock the token.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Listen(_) => false,
            Self::Tls(_) => true,
            Self::Keys(error) => error.is_final(),
        }
    }
}

/// Opens the token and checks the keys, without serving. Returns the signers and the id of the current one.
///
/// # Errors
/// As [`Proxy::start`], except for the address.
pub async fn inspect(settings: &Settings) -> Result<(Vec<Signer>, String), StartError> {
    if let Some(files) = &settings.tls {
        server_config(files, TLS)?;
    }
    let signers = Keyring::open(&settings.keys).await?.signers();
    Ok((
        signers.all.values().cloned().collect(),
        signers.current.id.clone(),
    ))
}

impl Proxy {
    /// Opens the token, checks every key, listens and serves. `log` is the queue that the subscriber writes to:
    /// signatures must be recorded in it.
    ///
    /// # Errors
    /// If one of these fails. A rejected PIN is not tried a second time.
    pub async fn start(settings: Settings, log: LogQueue) -> Result<Self, StartError> {
        let tls = match &settings.tls {
            Some(files) => Some(RustlsConfig::from_config(server_config(files, TLS)?)),
            None => None,
        };
        let listener = Listener::bind(&settings.listen).await?;
        let keyring = Arc::new(Keyring::open(&settings.keys).await?);
        let local = matches!(settings.listen, Address::Unix(_));
        let state = AppState::new(Arc::clone(&keyring), settings.callers.clone(), local, log);
        let mut proxy = Self {
            address: listener.address().unwrap_or_else(|| settings.listen.clone()),
            tasks: Tasks::new(LIMITS),
            state,
            settings,
            tls,
        };
        // There is one listener; the token and its files need few descriptors.
        let quota = ConnectionQuota::allocate(raise_open_files(), 0, MAX_CONNECTIONS, 1, 0);
        let address = proxy.address.to_string();
        let connections = Connections::new(&address, quota.tcp, proxy.state.metrics.connections());
        let (routes, tls) = (http::routes(proxy.state.clone()), proxy.tls.clone());
        proxy.tasks.serve(listener, routes, tls, connections);
        let watching = async move { keyring.supervise().await };
        proxy.tasks.spawn("the token monitor", watching);
        proxy.log_signers();
        Ok(proxy)
    }

    /// The address for callers.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Applies the signers, the current signer, the callers and the certificates of new settings, and the PIN for the
    /// next login. All other settings need a restart.
    ///
    /// # Errors
    /// If one of them is invalid; nothing is applied then.
    pub async fn reload(&mut self, new: Settings) -> Result<(), String> {
        let config = match (&new.tls, &self.tls) {
            (Some(files), Some(_)) => Some(server_config(files, TLS).map_err(|error| error.to_string())?),
            (None, None) => None,
            _ => return Err("tls: cannot be added or removed while the proxy runs: restart it".to_owned()),
        };
        self.check_unchangeable(&new)?;
        self.state
            .keyring
            .reload(&new.keys)
            .await
            .map_err(|error| error.to_string())?;
        // New connections need the new certificates before the old callers become invalid.
        if let (Some(config), Some(tls)) = (config, &self.tls) {
            tls.reload_from_config(config);
        }
        self.state.set_callers(new.callers.clone());
        self.settings = new;
        self.log_signers();
        Ok(())
    }

    /// Rejects changes that need a restart.
    fn check_unchangeable(&self, new: &Settings) -> Result<(), String> {
        let differs = |what: &str| Err(format!("{what} has changed since the start: restart the proxy"));
        if new.listen != self.settings.listen {
            return differs("listen");
        }
        match (&self.settings.keys, &new.keys) {
            (Keys::Token { token: old, .. }, Keys::Token { token: new, .. }) => {
                let of = |token: &crate::settings::Token| {
                    (
                        token.module.clone(),
                        token.name.clone(),
                        token.sessions,
                        token.queue,
                        token.deadline,
                    )
                };
                if of(old) == of(new) {
                    Ok(())
                } else {
                    differs("token")
                }
            }
            (Keys::Software(old), Keys::Software(new)) if old == new => Ok(()),
            _ => differs("token"),
        }
    }

    /// Waits for the end of a task that should not end, and returns its name.
    pub(crate) fn task_ended(&mut self) -> impl Future<Output = &'static str> {
        self.tasks.task_ended()
    }

    /// Stops accepting, finishes requests in progress within a timeout, and logs out of the token.
    pub async fn stop(self) {
        self.tasks.stop().await;
        tracing::info!("stopped");
    }

    fn log_signers(&self) {
        let signers = self.state.keyring.signers();
        for signer in signers.all.values() {
            let (id, key) = (&signer.id, format_key(&signer.key));
            let (current, uses) = (*id == signers.current.id, signer.uses().to_string());
            tracing::info!(signer_id = id, public_key = key, uses, current, "signer");
            if signer.uses.is_none() && !self.state.keyring.is_software() {
                tracing::warn!(
                    signer_id = id,
                    "this signer has no `uses` and signs any payload: generate a key for each use, and set `uses`"
                );
            }
        }
        if self.state.keyring.is_software() {
            tracing::warn!(
                signer_id = signers.current.id,
                "DEVELOPMENT: signing with a key in this process's memory. Anyone who can read it can sign as this \
                 signer. For development only"
            );
        }
        let callers = self.settings.callers.len();
        let (listen, tls) = (self.address.to_string(), self.tls.is_some());
        tracing::info!(listen, tls, callers, current = signers.current.id, "serving");
    }
}
