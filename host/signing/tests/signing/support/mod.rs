//! A KMS proxy with configurable behaviour, and independent verification of signatures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here ends the test"
)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum_server::tls_rustls::RustlsConfig;
use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::{KeyPair, Seed};
use futures_util::stream;
use postern_signing::{ProxySettings, Settings, Signing};
use rustls::pki_types::alg_id;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The signer that signs, unless the request names another.
pub(crate) const SIGNER: &str = "kernel-1";

/// The key pair of a signer in the KMS.
pub(crate) fn pair(signer: &str) -> KeyPair {
    let mut seed = [0; 32];
    let name = signer.as_bytes();
    seed[..name.len()].copy_from_slice(name);
    KeyPair::from_seed(Seed::new(seed))
}

/// How the proxy responds to signing requests.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// A correct signature.
    Correct,
    /// This status and body.
    Respond(u16, Vec<u8>),
    /// A signature with the first signer's key, in the name of the second.
    SignAs(&'static str, &'static str),
    /// A signature over another payload.
    SignOtherPayload,
    /// No response.
    Hang,
    /// A correct signature after a delay.
    Delay(Duration),
    /// A correct signature, sent a byte at a time.
    Trickle,
    /// 503 with this `Retry-After` for a number of requests, then correct signatures.
    Busy(usize, &'static str),
}

#[derive(Debug)]
struct KmsState {
    behaviour: Mutex<Behaviour>,
    token: Mutex<Option<&'static str>>,
    health: Mutex<u16>,
    sign_requests: AtomicUsize,
    last_request: Mutex<Value>,
    health_checks: AtomicUsize,
    last_latency: Mutex<Duration>,
}

/// A KMS proxy on its own thread.
pub(crate) struct Kms {
    addr: SocketAddr,
    tls: Option<RustlsConfig>,
    state: Arc<KmsState>,
    runtime: Option<Runtime>,
}

impl Kms {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::start_with(Some(RustlsConfig::from_config(Arc::new(config))))
    }

    fn start_with(tls: Option<RustlsConfig>) -> Self {
        let state = Arc::new(KmsState {
            behaviour: Mutex::new(Behaviour::Correct),
            token: Mutex::new(None),
            health: Mutex::new(200),
            sign_requests: AtomicUsize::new(0),
            last_request: Mutex::default(),
            health_checks: AtomicUsize::new(0),
            last_latency: Mutex::new(Duration::ZERO),
        });
        let mut kms = Self {
            addr: ([127, 0, 0, 1], 0).into(),
            tls,
            state,
            runtime: None,
        };
        kms.restart();
        kms
    }

    /// Starts it, after the first time on the same port.
    pub(crate) fn restart(&mut self) {
        let listener = TcpListener::bind(self.addr).expect("the same port");
        listener.set_nonblocking(true).unwrap();
        self.addr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = routes(Arc::clone(&self.state)).into_make_service();
        match self.tls.clone() {
            Some(tls) => {
                let _context = runtime.enter();
                let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
                runtime.spawn(server.serve(service));
            }
            None => {
                let _context = runtime.enter();
                let server = axum_server::from_tcp(listener).unwrap();
                runtime.spawn(server.serve(service));
            }
        }
        self.runtime = Some(runtime);
    }

    /// Stops it and closes all its connections, as SIGKILL would.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
        wait_until("the port is closed", || TcpStream::connect(self.addr).is_err());
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn require_token(&self, token: &'static str) {
        *self.state.token.lock().unwrap() = Some(token);
    }

    pub(crate) fn set_health_status(&self, status: u16) {
        *self.state.health.lock().unwrap() = status;
    }

    pub(crate) fn set_tls_config(&self, config: rustls::ServerConfig) {
        self.tls
            .as_ref()
            .expect("TLS")
            .reload_from_config(Arc::new(config));
    }

    /// Number of signing requests.
    pub(crate) fn sign_requests(&self) -> usize {
        self.state.sign_requests.load(Ordering::SeqCst)
    }

    /// Body of the last signing request.
    pub(crate) fn last_request(&self) -> Value {
        self.state.last_request.lock().unwrap().clone()
    }

    /// Number of health checks.
    pub(crate) fn health_checks(&self) -> usize {
        self.state.health_checks.load(Ordering::SeqCst)
    }

    /// Time it took for its last response.
    pub(crate) fn last_latency(&self) -> Duration {
        *self.state.last_latency.lock().unwrap()
    }

    pub(crate) fn url(&self) -> url::Url {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr).parse().unwrap()
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn routes(state: Arc<KmsState>) -> Router {
    Router::new()
        .route("/sign", post(sign))
        .route("/healthz", get(health))
        .with_state(state)
}

async fn health(State(state): State<Arc<KmsState>>) -> StatusCode {
    state.health_checks.fetch_add(1, Ordering::SeqCst);
    StatusCode::from_u16(*state.health.lock().unwrap()).unwrap()
}

async fn sign(State(state): State<Arc<KmsState>>, headers: HeaderMap, body: Bytes) -> Response {
    let started = Instant::now();
    let response = respond(&state, &headers, &body).await;
    *state.last_latency.lock().unwrap() = started.elapsed();
    response
}

async fn respond(state: &KmsState, headers: &HeaderMap, body: &[u8]) -> Response {
    state.sign_requests.fetch_add(1, Ordering::SeqCst);
    let presented = headers.get("authorization").map(|value| value.to_str().unwrap());
    let expected = state.token.lock().unwrap().map(|token| format!("Bearer {token}"));
    if expected.is_some() && presented != expected.as_deref() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(headers["content-type"], "application/json");
    let last_request: Value = serde_json::from_slice(body).unwrap();
    *state.last_request.lock().unwrap() = last_request.clone();
    let payload = Base64::decode_to_vec(last_request["payload_b64"].as_str().unwrap(), None).unwrap();
    let signer = last_request["signer_id"].as_str().unwrap_or(SIGNER).to_owned();
    let correct = || {
        signature_json(&signer, &signer, &payload)
            .to_string()
            .into_response()
    };
    let behaviour = state.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Correct => correct(),
        Behaviour::Respond(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Behaviour::SignAs(with, signer_id) => signature_json(with, signer_id, &payload)
            .to_string()
            .into_response(),
        Behaviour::SignOtherPayload => signature_json(&signer, &signer, b"other")
            .to_string()
            .into_response(),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            correct()
        }
        Behaviour::Trickle => {
            let bytes = signature_json(&signer, &signer, &payload)
                .to_string()
                .into_bytes();
            let trickle = stream::unfold(bytes.into_iter(), async |mut left| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, std::io::Error>(vec![left.next()?]), left))
            });
            Body::from_stream(trickle).into_response()
        }
        Behaviour::Busy(0, _) => correct(),
        Behaviour::Busy(times, pause) => {
            *state.behaviour.lock().unwrap() = Behaviour::Busy(times - 1, pause);
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", pause)]).into_response()
        }
    }
}

pub(crate) fn signature_json(with: &str, signer_id: &str, payload: &[u8]) -> Value {
    let signature = pair(with).sk.sign(payload, None);
    json!({"signature_b64": Base64::encode_to_string(*signature).unwrap(), "signer_id": signer_id, "algorithm": "Ed25519"})
}

/// A temporary directory with a registry file.
pub(crate) struct RegistryDir {
    dir: TempDir,
}

impl RegistryDir {
    /// A registry with signers in every state.
    pub(crate) fn new() -> Self {
        let dir = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let day = Duration::from_secs(86400);
        let now = SystemTime::now();
        let mut text = String::new();
        for (id, from, until) in [
            (SIGNER, None, None),
            ("kernel-2", None, Some(now + day)),
            ("retired", None, None),
            ("early", Some(now + day), None),
            ("late", None, Some(now - day)),
        ] {
            text = postern_signers::add(&text, id, &pair(id).pk, from, until).unwrap();
        }
        text = postern_signers::retire(&text, "retired", now + day).unwrap();
        dir.write_registry(&text);
        dir
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("signers.toml")
    }

    pub(crate) fn write_registry(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    /// Settings with short deadlines, for quick tests.
    pub(crate) fn proxy(&self, kms: &Kms) -> ProxySettings {
        ProxySettings {
            deadline: Duration::from_millis(700),
            connect: Duration::from_millis(200),
            ..ProxySettings::new(kms.url(), self.file())
        }
    }

    pub(crate) fn signing(&self, kms: &Kms) -> Signing {
        start(self.proxy(kms))
    }
}

pub(crate) fn start(proxy: ProxySettings) -> Signing {
    Signing::start(&Settings {
        proxy: Some(proxy),
        required: true,
        development_secret: None,
    })
    .unwrap()
}

/// Verifies with ring, an independent implementation of Ed25519.
pub(crate) fn verifies(signer: &str, message: &[u8], signature: &[u8]) -> bool {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let ed25519 = algorithms
        .all
        .iter()
        .find(|algorithm| algorithm.signature_alg_id() == alg_id::ED25519)
        .expect("ring has Ed25519");
    ed25519
        .verify_signature(&*pair(signer).pk, message, signature)
        .is_ok()
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The values of all metrics, by series.
pub(crate) fn metrics(signing: &Signing) -> BTreeMap<String, String> {
    let mut registry = prometheus_client::registry::Registry::with_prefix("postern");
    signing.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
