//! The settings of the proxy, `kms-proxy.yaml`.
//!
//! Parsed in two passes, like a gate's configuration: first against the schema, then the values. Each pass reports all
//! errors.

mod parse;
mod schema;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use postern_serve::log::LogSettings;
use postern_serve::tls::TlsFiles;
use postern_serve::{Address, TokenDigest};
use postern_signers::Uses;
use secrecy::SecretString;

pub use schema::Permission;

/// The validated settings of a proxy. Keys are looked up when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address for callers.
    pub listen: Address,
    /// TLS files; `None` without TLS.
    pub tls: Option<TlsFiles>,
    /// The callers with bearer tokens. If empty, everyone may call who reaches the address and, with `tls.client_ca`,
    /// has a certificate.
    pub callers: Vec<Caller>,
    /// The keys to sign with.
    pub keys: Keys,
    /// The `log` section.
    pub log: LogSettings,
}

/// A caller with a bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name in the request log.
    pub name: String,
    /// The digest of its token.
    pub digest: TokenDigest,
    /// What it may request.
    pub permission: Permission,
}

/// The keys of a proxy.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Keys in a PKCS#11 token.
    Token {
        /// The settings of the token.
        token: Token,
        /// The keys by signer id.
        signers: BTreeMap<String, SignerKey>,
        /// The signer for requests that name none: an id of `signers`.
        current: String,
        /// Whether keys are allowed that can leave the token.
        lenient: bool,
    },
    /// A key in this process, for development only: from a PEM file, or generated at each start.
    Software(Option<PathBuf>),
}

/// The key of a signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey {
    /// Its label in the token.
    pub label: String,
    /// The uses in the settings; `None` if not set, which permits everything.
    pub uses: Option<Uses>,
}

/// A PKCS#11 token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// The name of the token.
    pub name: TokenName,
    /// The user PIN.
    pub pin: SecretString,
    /// Maximum concurrent signatures.
    pub sessions: usize,
    /// Maximum number of requests that wait for a session.
    pub queue: usize,
    /// For one signature, including the wait for a session.
    pub deadline: Duration,
}

/// Identifies a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenName {
    /// The label that was set when the token was initialised.
    Label(String),
    /// The serial number.
    Serial(String),
}

/// Whether keys for development are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only keys that cannot leave a token.
    Production,
    /// Also keys in software, and keys that can leave a token.
    Development,
}

#[cfg(test)]
mod tests;
