//! A host: started from settings, serving until it is stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use postern_audit::{Decision, Kind};
use postern_files::with_deadline;
use postern_policy::{Cache, CacheError, Digest, Engines, HostServices, LoadReport, Policies, Signer, Store};
use tokio::sync::mpsc;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin;
use crate::audited_signer::AuditedSigner;
use crate::bounds::Bounds;
use crate::check::Checks;
use crate::gates::{self, GateAuth};
use crate::health::Health;
use crate::license::License;
use crate::listen::{ListenError, Listener};
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::record::{Recorder, cut};
use crate::settings::{Address, Gate, KeyValue, Settings};
use crate::signers;
use crate::signing_services::SigningServices;
use crate::tasks::Tasks;
use crate::tls::{self, TlsError};
use crate::watch::Watch;

/// Instances beside those that decide: new modules answer their cases while the old ones serve.
const SPARE: usize = 8;

/// How long opening the directory of compiled modules may take.
const CACHE: Duration = Duration::from_secs(5);
/// How long reading the registry of signers again may take.
const SIGNERS: Duration = Duration::from_secs(5);

/// How long a host that stops waits for its audit log.
const RECORDING: Duration = Duration::from_secs(1);

/// A host that serves.
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
    /// Has the watched directories found anew.
    changed: Option<mpsc::Sender<()>>,
}

/// A host has stopped, and its audit log has not taken so many events.
#[derive(Debug, thiserror::Error)]
#[error("stopped, and {0} events are lost: the store of the audit log did not take them")]
pub struct Lost(usize);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// wasmtime cannot run here.
    #[error(
        "WebAssembly cannot be run here: {0}; with little address space (ulimit -v), lower policies.concurrency"
    )]
    Engines(String),
    /// The directory of compiled modules cannot be used.
    #[error("policies.cache: {0}")]
    Cache(#[from] postern_policy::CacheError),
    /// The URL of Redis is none.
    #[error("policies.keyvalue.redis: the variable holds no URL of Redis")]
    Redis,
    /// Requests of policies cannot be sent.
    #[error("the HTTP client of policies cannot be set up: {0}")]
    Client(String),
    /// The files of TLS are none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing can be signed.
    #[error("signing: {0}")]
    Signing(#[from] postern_signing::StartError),
    /// The audit log cannot be opened.
    #[error("audit: {0}")]
    Audit(#[from] postern_audit::OpenError),
    /// Entries cannot be loaded, and settings are strict.
    #[error("TAMPER_STRICT, and not every policy can be loaded{}", list(.0))]
    Strict(BTreeMap<String, String>),
}

fn list(errors: &BTreeMap<String, String>) -> String {
    errors
        .iter()
        .map(|(name, reason)| format!("\n  {name}: {reason}"))
        .collect()
}

impl Host {
    /// Listens, opens the audit log, loads the policies, and serves.
    ///
    /// # Errors
    /// If an address cannot be listened on, the log cannot be opened, nothing can be signed where it must be,
    /// WebAssembly cannot be run, or not every entry loads and settings are strict.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // Another part of the process may have chosen before us.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut listeners = Vec::new();
        for address in &settings.listen {
            listeners.push(Listener::bind(address).await?);
        }
        let admin = match &settings.admin {
            Some(admin) => Some((Listener::bind(&admin.listen).await?, admin.token)),
            None => None,
        };
        let tls = settings.gate.tls.as_ref().map(tls::server).transpose()?;
        let metrics = Arc::new(Metrics::new());
        let services = SigningServices::open(&settings, &metrics).await?;
        let recorder = services.recorder.clone();
        let started = Self::start_recorded(settings, listeners, admin, tls, metrics, services).await;
        if let Err(error) = &started {
            recorder.note(|| {
                let mut event = recorder.event(Kind::Host, Decision::Failed);
                event.reason = Some("not_started".to_owned());
                event
                    .detail
                    .insert("why".to_owned(), cut(&error.to_string()).into());
                event
            });
            recorder.close(RECORDING).await;
        }
        started
    }

    async fn start_recorded(
        settings: Settings,
        listeners: Vec<Listener>,
        admin: Option<(Listener, Option<Digest>)>,
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
        // Before anything is read: what changes afterwards is noticed.
        let watch = if settings.watch {
            let watch = Watch::start(&settings.policies).await;
            watch
                .inspect_err(|error| tracing::warn!(%error, "files are not watched: changes need a reload"))
                .ok()
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
            license: settings.license.as_ref().map(License::of),
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
            tasks: Tasks::default(),
            changed: None,
        };
        let bounds = Bounds::new(&host.settings, &host.addresses, &metrics);
        for listener in listeners {
            let known = known(&listener, &host.settings.gate);
            let connections = bounds.of_gates(&listener);
            let routes = gates::routes(Arc::clone(&checks), health_service.clone(), state.clone(), known);
            host.tasks.serve(listener, routes, tls.clone(), connections);
        }
        if let Some((listener, token)) = admin {
            let state = admin::AppState {
                loader: Arc::clone(&host.loader),
                metrics: Arc::clone(&metrics),
                health,
                signer: host.signer.clone(),
            };
            let connections = bounds.of_operators(&listener);
            host.tasks
                .serve(listener, admin::routes(state, token), None, connections);
        }
        if let Some((watch, changed)) = watch {
            host.changed = Some(changed);
            host.tasks.spawn(watch.run(Arc::clone(&host.loader)));
        }
        if let Some(interval) = host.settings.tamper_check {
            host.tasks
                .spawn(check_for_tampering(Arc::clone(&host.loader), interval));
        }
        let proxy = host
            .settings
            .signing
            .as_ref()
            .and_then(|signing| signing.proxy.as_ref());
        if let (Some(signer), Some(proxy), true) = (&host.signer, proxy, host.settings.watch) {
            let watching = signers::watch(Arc::clone(signer), proxy.registry.clone());
            host.tasks.spawn(watching);
        }
        host.announce(&report);
        host.record("started");
        if let Some(signer) = &host.signer {
            signer.found();
        }
        Ok(host)
    }

    /// Where gates reach it.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where operators reach it.
    #[must_use]
    pub fn admin(&self) -> Option<&Address> {
        self.admin.as_ref()
    }

    /// Takes the entries, the manifest and the signers of other settings, and who is asked to sign. What else they say needs
    /// a restart: the names of what differs are returned.
    ///
    /// # Errors
    /// If they want more than the pools were made for, or do not say who signs; nothing is taken then.
    pub async fn reload(&mut self, new: Settings) -> Result<Vec<&'static str>, String> {
        let left = self.settings.differences(&new);
        let pool = |settings: &Settings| (settings.concurrency, settings.memory());
        let ((had, size), (wants, memory)) = (pool(&self.settings), pool(&new));
        if wants > had || memory > size {
            return Err(format!(
                "they want {wants} decisions at once and {memory} bytes for the largest; this host was started for \
                 {had} and {size}: restart it"
            ));
        }
        if let Some(signer) = &self.signer {
            // First, so that whoever is asked next is known.
            let registry = Arc::clone(signer);
            let read = with_deadline(Path::new("signers"), SIGNERS, move || registry.reload());
            if let Err(error) = read.await {
                signer.not_read(error.to_string());
            }
            if let Some(asked) = new.asked() {
                signer.ask(asked).map_err(|error| format!("signing: {error}"))?;
            }
        }
        let policies = postern_policy::Settings {
            strict: self.settings.policies.strict,
            ..new.policies
        };
        self.loader.replace(policies, "settings").await;
        self.recorder.note(|| {
            let mut event = self.recorder.event(Kind::Settings, Decision::Allowed);
            event.reason = Some("read_again".to_owned());
            event
        });
        if let Some(changed) = &self.changed {
            let _ = changed.try_send(());
        }
        Ok(left)
    }

    /// Waits for the end of a part that should not end.
    pub(crate) async fn ended(&mut self) {
        self.tasks.ended().await;
    }

    /// Accepts nothing more, finishes what it has begun, for a while, and removes its sockets. Takes 4.5 seconds at most.
    ///
    /// # Errors
    /// If events were lost because the audit log did not take them.
    pub async fn stop(self) -> Result<(), Lost> {
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        self.health.set_not_serving::<AuthorizationServer<Checks>>().await;
        self.tasks.stop().await;
        self.recorder.note(|| {
            let mut event = self.recorder.event(Kind::Host, Decision::Allowed);
            event.reason = Some("stopped".to_owned());
            event
        });
        let lost = self.recorder.close(RECORDING).await;
        tracing::info!("stopped");
        if lost > 0 {
            return Err(Lost(lost));
        }
        Ok(())
    }

    fn record(&self, what: &str) {
        self.recorder.note(|| {
            let mut event = self.recorder.event(Kind::Host, Decision::Allowed);
            event.reason = Some(what.to_owned());
            event
                .detail
                .insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
            event
        });
    }

    fn announce(&self, report: &LoadReport) {
        let policies = &self.settings.policies;
        if policies.manifest.is_some() && policies.state.is_none() {
            tracing::warn!(
                "policies.state is not set: after a restart, an older manifest that is put in place would be taken"
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
            watch = self.changed.is_some(),
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

/// How a listener knows its gates.
fn known(listener: &Listener, gate: &Gate) -> GateAuth {
    match (listener, gate) {
        (Listener::Unix(..), _) => GateAuth::Connected,
        (
            Listener::Tcp(_),
            Gate {
                token: Some(token), ..
            },
        ) => GateAuth::Token(*token),
        (Listener::Tcp(_), Gate { tls: Some(_), .. }) => GateAuth::Connected,
        (Listener::Tcp(_), _) => GateAuth::No,
    }
}

/// The policies of settings, none loaded yet.
pub(crate) async fn policies(
    settings: &Settings,
    signer: Option<Arc<dyn Signer>>,
) -> Result<Policies, StartError> {
    // Modules of an entry decide beside those that they are about to replace.
    let most = settings
        .policies
        .entries
        .values()
        .map(|entry| entry.limits.concurrency)
        .max()
        .unwrap_or_default();
    let instances = settings.concurrency + most + SPARE;
    let engines = Engines::new(instances, settings.memory())
        .map_err(|error| StartError::Engines(format!("{error:#}")))?
        .with_compiler(settings.compiler.clone());
    let cache = match settings.cache.clone() {
        Some(directory) => {
            let opened = with_deadline(&directory, CACHE, {
                let directory = directory.clone();
                move || Cache::open(&directory)
            });
            let stalled =
                |error: postern_files::DeadlineError| CacheError::Io(directory.clone(), error.into());
            Some(opened.await.map_err(stalled)??)
        }
        None => None,
    };
    let store = match &settings.keyvalue {
        KeyValue::Memory => Store::Memory,
        // What the library says of a URL can repeat it.
        KeyValue::Redis(url) => Store::redis(url).map_err(|_| StartError::Redis)?,
    };
    let client = postern_policy::http_client().map_err(|error| StartError::Client(error.to_string()))?;
    let services = HostServices {
        store,
        client,
        signer,
    };
    Ok(Policies::new(engines, cache, services, settings.policies.clone()))
}
