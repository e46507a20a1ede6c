//! The proxy's settings, `kms-proxy.yaml`.
//!
//! Read in two steps, as a gate's configuration: its shape first, then its sense. Each step reports all that is wrong.

mod address;
mod schema;
mod secret;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_config::{ConfigErrors, yaml};
use postern_signers::Uses;
use secrecy::SecretString;

pub use address::{Address, NoAddress};
pub use schema::{Format, Level, May};

/// What an empty file lacks.
const NEEDS: &str = "\"listen\", \"token\", \"signers\" and \"current\" at least";

/// The settings of a proxy, complete and sound. Keys are looked for when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where callers reach it.
    pub listen: Address,
    /// With what certificate, if with one.
    pub tls: Option<Tls>,
    /// Who may call. If there is nobody, whoever reaches it and, with `tls.client_ca`, has a certificate.
    pub callers: Vec<Caller>,
    /// What it signs with.
    pub keys: Keys,
    /// What is logged, and how.
    pub log: Log,
}

/// The files of TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The proxy's certificate, and those between it and a root.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Who vouches for callers' certificates; with it, a caller needs one.
    pub client_ca: Option<PathBuf>,
}

/// Who shows a bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How the audit names it.
    pub name: String,
    /// The token's SHA-256.
    pub digest: [u8; 32],
    /// What it may ask for.
    pub may: May,
}

/// What a proxy signs with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Keys in a token.
    Token {
        /// The token.
        token: Token,
        /// The keys in it, by signers' ids.
        signers: BTreeMap<String, KeyOf>,
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
pub struct KeyOf {
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

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// For machines or for people.
    pub format: Format,
    /// The least that is logged.
    pub level: Level,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// What is wrong with it.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

/// Whether keys may be of a kind that only development needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only keys that cannot leave a token.
    Production,
    /// Keys in software too, and those that can leave a token.
    Development,
}

impl Settings {
    /// Reads the settings in a file. Secrets are looked up with `variable`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(
        path: &Path,
        mode: Mode,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let (text, directory) = text(path)?;
        Ok(Self::parse(&text, &directory, mode, variable)?)
    }

    /// Reads settings. Relative paths begin at `directory`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn parse(
        text: &str,
        directory: &Path,
        mode: Mode,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        validate::settings(yaml::from_str(text, NEEDS)?, directory, mode, variable)
    }
}

impl Token {
    /// Reads what the settings in a file say of the token, and none of the secrets that it does not need.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let (text, directory) = text(path)?;
        Ok(validate::only_token(
            yaml::from_str(&text, NEEDS)?,
            &directory,
            variable,
        )?)
    }
}

fn text(path: &Path) -> Result<(String, PathBuf), SettingsError> {
    let path = std::path::absolute(path)?;
    let text = std::fs::read_to_string(&path)?;
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((text, directory))
}

#[cfg(test)]
mod tests;
