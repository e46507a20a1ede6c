//! The proxy's settings, `kms-proxy.yaml`.
//!
//! Read in two steps, as a gate's configuration: its shape first, then its sense. Each step reports all that is wrong.

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

/// The settings of a proxy, complete and sound. Keys are looked for when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where callers reach it.
    pub listen: Address,
    /// With what certificate, if with one.
    pub tls: Option<TlsFiles>,
    /// Who may call. If there is nobody, whoever reaches it and, with `tls.client_ca`, has a certificate.
    pub callers: Vec<Caller>,
    /// What it signs with.
    pub keys: Keys,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// Who shows a bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How the audit names it.
    pub name: String,
    /// The token's digest.
    pub digest: TokenDigest,
    /// What it may ask for.
    pub permission: Permission,
}

/// What a proxy signs with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Keys in a token.
    Token {
        /// The token.
        token: Token,
        /// The keys in it, by signers' ids.
        signers: BTreeMap<String, SignerKey>,
        /// Who signs where a request names nobody: an id of `signers`.
        current: String,
        /// Whether a key may be one that can leave the token.
        lenient: bool,
    },
    /// A key of this process, for development: of a PEM file, or made up at each start.
    Software(Option<PathBuf>),
}

/// A signer's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey {
    /// Its label in the token.
    pub label: String,
    /// What it signs; nothing, if settings do not say: then everything.
    pub uses: Option<Uses>,
}

/// A PKCS#11 token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The library that speaks to it.
    pub module: PathBuf,
    /// Which token it is.
    pub name: TokenName,
    /// The user's PIN.
    pub pin: SecretString,
    /// Signatures at the same time.
    pub sessions: usize,
    /// Requests that wait for a session.
    pub queue: usize,
    /// For one signature, the wait for a session included.
    pub deadline: Duration,
}

/// How a token is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenName {
    /// By its label, which whoever initialised it chose.
    Label(String),
    /// By its serial number.
    Serial(String),
}

/// Whether keys may be of a kind that only development needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only keys that cannot leave a token.
    Production,
    /// Keys in software too, and those that can leave a token.
    Development,
}

#[cfg(test)]
mod tests;
