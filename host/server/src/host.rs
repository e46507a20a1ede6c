//! Starts, reloads and stops the host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use postern_audit::{Decision, Kind};
use postern_files::with_deadline;
use postern_policy::{Cache, CacheError, Engines, HostServices, LoadReport, Policies, Signer, Store};
use postern_serve::tls::server_config;
use postern_serve::{Address, Limits, Listener, Tasks, TokenDigest};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin;
use crate::audited_signer::AuditedSigner;
use crate::check::Checks;
use crate::gates::{self, GateAuth};
use crate::health::Health;
use crate::license::License;
use crate::listener_limits::ListenerLimits;
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::policy_watch;
use crate::recorder::{Recorder, truncate};
use crate::settings::{Gate, KeyValue, Settings};
use crate::signer_watch;
use crate::signing_services::SigningServices;
use crate::start_error::StartError;

/// Instances beyond those for decisions: new modules run their test cases while the old ones serve.
const SPARE_INSTANCES: usize = 8;

/// Limits of the listeners. Envoy opens a connection for each worker, and more if it may not send more over one.
const LIMITS: Limits = Limits {
    head_timeout: Duration::from_secs(30),
    max_streams: 4096,
    stop_timeout: Duration::from_millis(3500),
};
/// How long opening the directory of compiled modules may take.
const CACHE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long reloading the registry of signers may take.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings section of the gates' TLS files, for errors.
pub(crate) const GATE_TLS: &str = "gate.tls";

/// How long a stopping host waits for its audit log.
const AUDIT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running host.
#[derive(Debug)]
pub struct Host {
    loader: Arc<Loader>,
    signer: Option<Arc<AuditedSigner>>,
    recorder: Recorder,
    settings: Settings,
    addresses: Vec<Address>,
    admin: Option<Address>,
    health: HealthReporter,
    tasks: Tasks,
    /// Triggers a reload and a new look-up of the watched directories.
    rewatch: Option<mpsc::Sender<()>>,
}

/// The host has stopped, but the audit log did not accept this many events.
#[derive(Debug, thiserror::Error)]
#[error("stopped, but {0} events are lost: the store of the audit log did not accept them")]
pub struct LostEvents(usize);

impl Host {
    /// Listens, opens the audit log, loads the policies, and serves.
    ///
    /// # Errors
    /// If an address cannot be listened on, the log cannot be opened, required signing is impossible, WebAssembly
    /// cannot run, or an entry fails to load and the settings are strict.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // Another part of the process may already have installed a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut listeners = Vec::new();
        for address in &settings.listen {
            listeners.push(Listener::bind(address).await?);
        }
        let admin = match &settings.admin {
            Some(admin) => Some((Listener::bind(&admin.listen).await?, admin.token)),
            None => None,
        };
        let tls = match &settings.gate.tls {
            Some(files) => Some(RustlsConfig::from_config(server_config(files, GATE_TLS)?)),
            None => None,
        };
        let metrics = Arc::new(Metrics::new());
        let services = SigningServices::open(&settings, &metrics).await?;
        let recorder = services.recorder.clone();
        let started = Self::start_recorded(settings, listeners, admin, tls, metrics, services).await;
        if let Err(error) = &started {
            recorder.record(|| {
                let mut event = recorder.event(Kind::Host, Decision::Failed);
                event.reason = Some("not_started".to_owned());
                event
                    .detail
                    .insert("why".to_owned(), truncate(&error.to_string()).into());
                event
            });
            recorder.close(AUDIT_CLOSE_TIMEOUT).await;
        }
        started
    }

    async fn start_recorded(
        settings: Settings,
        listeners: Vec<Listener>,
        admin: Option<(Listener, Option<TokenDigest>)>,
        tls: Option<RustlsConfig>,
        metrics: Arc<Metrics>,
        services: SigningServices,
    ) -> Result<Self, StartError> {
        let SigningServices { recorder, signer } = services;
        let for_policies = signer.clone().map(|signer| signer as Arc<dyn Signer>);
        let loader = Arc::new(Loader::new(
            policies(&settings, for_policies).await?,
            settings.policies.clone(),
            Arc::clone(&metrics),
            recorder.clone(),
        ));
        // Before anything is read, so that later changes are noticed.
        let watch = if settings.watch {
            policy_watch::start(&settings.policies).await
        } else {
            None
        };
        let report = loader.load("start").await;
        let errors: BTreeMap<_, _> = report
            .errors()
            .map(|(name, error)| (name.to_owned(), error.to_string()))
            .collect();
        if settings.policies.strict && !errors.is_empty() {
            return Err(StartError::Strict(errors));
        }

        let health = Arc::new(Health {
            loader: Arc::clone(&loader),
            signer: signer.clone(),
            recorder: recorder.clone(),
            license: settings.license.as_ref().map(License::verify),
        });
        let (reporter, health_service) = tonic_health::server::health_reporter();
        reporter.set_serving::<AuthorizationServer<Checks>>().await;
        let checks = Arc::new(Checks::new(
            Arc::clone(&loader),
            Arc::clone(&metrics),
            settings.default.clone(),
            recorder.clone(),
        ));
        let state = gates::AppState {
            signer: signer.clone(),
            recorder: recorder.clone(),
            health: Arc::clone(&health),
        };

        let mut host = Self {
            addresses: listeners.iter().filter_map(Listener::address).collect(),
            admin: admin.as_ref().and_then(|(listener, _)| listener.address()),
            loader,
            signer,
            recorder,
            settings,
            health: reporter,
            tasks: Tasks::new(LIMITS),
            rewatch: None,
        };
        let limits = ListenerLimits::new(&host.settings, &host.addresses, &metrics);
        for listener in listeners {
            let gate_auth = gate_auth(&listener, &host.settings.gate);
            let connections = limits.for_gates(&listener);
            let routes = gates::routes(
                Arc::clone(&checks),
                health_service.clone(),
                state.clone(),
                gate_auth,
            );
            host.tasks.serve(listener, routes, tls.clone(), connections);
        }
        if let Some((listener, token)) = admin {
            let state = admin::AppState {
                loader: Arc::clone(&host.loader),
                metrics: Arc::clone(&metrics),
                health,
                signer: host.signer.clone(),
            };
            let connections = limits.for_operators(&listener);
            host.tasks
                .serve(listener, admin::routes(state, token), None, connections);
        }
        if let Some(watcher) = watch {
            host.rewatch = Some(watcher.trigger());
            let watching = policy_watch::run(watcher, Arc::clone(&host.loader));
            host.tasks.spawn("the file watcher", watching);
        }
        if let Some(interval) = host.settings.tamper_check {
            let checking = check_for_tampering(Arc::clone(&host.loader), interval);
            host.tasks.spawn("the tamper check", checking);
        }
        let proxy = host
            .settings
            .signing
            .as_ref()
            .and_then(|signing| signing.proxy.as_ref());
        if let (Some(signer), Some(proxy), true) = (&host.signer, proxy, host.settings.watch) {
            let watching = signer_watch::watch(Arc::clone(signer), proxy.registry.clone());
            host.tasks.spawn("the signer watcher", watching);
        }
        host.log_serving(&report);
        host.record("started");
        if let Some(signer) = &host.signer {
            signer.record_retired();
        }
        Ok(host)
    }

    /// The addresses for gates.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The address for operators.
    #[must_use]
    pub fn admin(&self) -> Option<&Address> {
        self.admin.as_ref()
    }

    /// Applies entries, manifest, signers and the signer selection of new settings. Everything else needs a restart:
    /// returns the names of the settings that differ.
    ///
    /// # Errors
    /// If the settings exceed the instance pools of this host, or the signer selection is invalid; nothing is applied
    /// then.
    pub async fn reload(&mut self, new: Settings) -> Result<Vec<&'static str>, String> {
        let left = self.settings.differences(&new);
        let pool = |settings: &Settings| (settings.concurrency, settings.memory());
        let ((had, size), (wants, memory)) = (pool(&self.settings), pool(&new));
        if wants > had || memory > size {
            return Err(format!(
                "they need {wants} concurrent decisions with up to {memory} bytes each; this host was started for \
                 {had} and {size}: restart it"
            ));
        }
        if let Some(signer) = &self.signer {
            // First, so that a newly selected signer is known.
            let registry = Arc::clone(signer);
            let read = with_deadline(Path::new("signers"), REGISTRY_TIMEOUT, move || registry.reload());
            if let Err(error) = read.await {
                signer.report_registry_error(error.to_string());
            }
            if let Some(selection) = new.signer_selection() {
                signer
                    .select_signers(selection)
                    .map_err(|error| format!("signing: {error}"))?;
            }
        }
        let policies = postern_policy::Settings {
            strict: self.settings.policies.strict,
            ..new.policies
        };
        self.loader.replace(policies, "settings").await;
        self.recorder.record(|| {
            let mut event = self.recorder.event(Kind::Settings, Decision::Allowed);
            event.reason = Some("read_again".to_owned());
            event
        });
        if let Some(rewatch) = &self.rewatch {
            let _ = rewatch.try_send(());
        }
        Ok(left)
    }

    /// Waits for the end of a task that should not end, and returns its name.
    pub(crate) fn task_ended(&mut self) -> impl Future<Output = &'static str> {
        self.tasks.task_ended()
    }

    /// Stops accepting, finishes requests in progress within a timeout, and removes its sockets. Takes 4.5 seconds at
    /// most.
    ///
    /// # Errors
    /// If the audit log did not accept all events.
    pub async fn stop(self) -> Result<(), LostEvents> {
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        self.health.set_not_serving::<AuthorizationServer<Checks>>().await;
        self.tasks.stop().await;
        self.recorder.record(|| {
            let mut event = self.recorder.event(Kind::Host, Decision::Allowed);
            event.reason = Some("stopped".to_owned());
            event
        });
        let lost = self.recorder.close(AUDIT_CLOSE_TIMEOUT).await;
        tracing::info!("stopped");
        if lost > 0 {
            return Err(LostEvents(lost));
        }
        Ok(())
    }

    fn record(&self, what: &str) {
        self.recorder.record(|| {
            let mut event = self.recorder.event(Kind::Host, Decision::Allowed);
            event.reason = Some(what.to_owned());
            event
                .detail
                .insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
            event
        });
    }

    fn log_serving(&self, report: &LoadReport) {
        let policies = &self.settings.policies;
        if policies.manifest.is_some() && policies.state.is_none() {
            tracing::warn!(
                "policies.state is not set: after a restart, the host would accept an older manifest"
            );
        }
        let listen: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let admin = self
            .admin
            .as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string);
        let (entries, failed) = (report.entries.len(), report.errors().count());
        tracing::info!(
            listen = listen.join(" "),
            admin,
            policies = entries - failed,
            failed,
            watch = self.rewatch.is_some(),
            tamper_check = self.settings.tamper_check.is_some(),
            tamper_strict = self.settings.policies.strict,
            "serving"
        );
    }
}

async fn check_for_tampering(loader: Arc<Loader>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        loader.verify().await;
    }
}

/// How a listener authenticates gates.
fn gate_auth(listener: &Listener, gate: &Gate) -> GateAuth {
    match gate {
        _ if listener.is_unix() => GateAuth::Connected,
        Gate {
            token: Some(token), ..
        } => GateAuth::Token(*token),
        Gate { tls: Some(_), .. } => GateAuth::Connected,
        _ => GateAuth::Unauthenticated,
    }
}

/// Creates the policies of the settings, without loading them.
pub(crate) async fn policies(
    settings: &Settings,
    signer: Option<Arc<dyn Signer>>,
) -> Result<Policies, StartError> {
    // New modules of an entry are tested while the old ones still decide.
    let largest = settings
        .policies
        .entries
        .values()
        .map(|entry| entry.limits.concurrency)
        .max()
        .unwrap_or_default();
    let instances = settings.concurrency + largest + SPARE_INSTANCES;
    let engines = Engines::new(instances, settings.memory())
        .map_err(|error| StartError::Engines(format!("{error:#}")))?
        .with_compiler(settings.compiler.clone());
    let cache = match settings.cache.clone() {
        Some(directory) => {
            let opened = with_deadline(&directory, CACHE_TIMEOUT, {
                let directory = directory.clone();
                move || Cache::open(&directory)
            });
            let timeout =
                |error: postern_files::DeadlineError| CacheError::Io(directory.clone(), error.into());
            Some(opened.await.map_err(timeout)??)
        }
        None => None,
    };
    let store = match &settings.keyvalue {
        KeyValue::Memory => Store::Memory,
        // The library's error can contain the URL.
        KeyValue::Redis(url) => Store::redis(url.expose_secret()).map_err(|_| StartError::Redis)?,
    };
    let client = postern_policy::http_client().map_err(|error| StartError::Client(error.to_string()))?;
    let services = HostServices {
        store,
        client,
        signer,
    };
    Ok(Policies::new(engines, cache, services, settings.policies.clone()))
}
