//! Errors that prevent the start of a host.

use std::collections::BTreeMap;

use postern_policy::CacheError;
use postern_serve::ListenError;
use postern_serve::tls::TlsError;

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
    Cache(#[from] CacheError),
    /// The Redis URL is invalid.
    #[error("policies.keyvalue.redis: the variable holds no URL of Redis")]
    Redis,
    /// Requests of policies cannot be sent.
    #[error("the HTTP client of policies cannot be set up: {0}")]
    Client(String),
    /// The files of TLS cannot be used.
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
