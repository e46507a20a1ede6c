//! Errors that prevent the start of a host.

use std::collections::BTreeMap;

use postern_policy::CacheError;
use postern_serve::ListenError;
use postern_serve::tls::TlsError;

/// The host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// wasmtime cannot run on this machine.
    #[error(
        "WebAssembly cannot run here: {0}; if address space is limited (ulimit -v), lower policies.concurrency"
    )]
    Engines(String),
    /// The directory of compiled modules cannot be used.
    #[error("policies.cache: {0}")]
    Cache(#[from] CacheError),
    /// The Redis URL is invalid.
    #[error(
        "policies.keyvalue.redis: the variable does not hold a Redis URL, such as redis://127.0.0.1:6379/0"
    )]
    Redis,
    /// The HTTP client of policies cannot be created.
    #[error("the HTTP client of policies cannot be created: {0}")]
    Client(String),
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Signing cannot start.
    #[error("signing: {0}")]
    Signing(#[from] postern_signing::StartError),
    /// The audit log cannot be opened.
    #[error("audit: {0}")]
    Audit(#[from] postern_audit::OpenError),
    /// Entries cannot be loaded, and the settings are strict.
    #[error("TAMPER_STRICT is set, but not every policy can be loaded{}", list(.0))]
    Strict(BTreeMap<String, String>),
}

fn list(errors: &BTreeMap<String, String>) -> String {
    errors
        .iter()
        .map(|(name, reason)| format!("\n  {name}: {reason}"))
        .collect()
}
