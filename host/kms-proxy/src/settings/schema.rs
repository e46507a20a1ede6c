//! The schema of `kms-proxy.yaml`, with its defaults.

use std::time::Duration;

use deserr::Deserr;
use postern_config::{ConfigErrors, Digest, Entries, HumanDuration};
use postern_serve::log::LogSettings;

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: String,
    #[deserr(default)]
    pub(super) tls: Option<Tls>,
    #[deserr(default)]
    pub(super) callers: Entries<Caller>,
    #[deserr(default)]
    pub(super) token: Option<Token>,
    #[deserr(default)]
    pub(super) signers: Entries<Signer>,
    #[deserr(default)]
    pub(super) current: Option<String>,
    #[deserr(default)]
    pub(super) development: Option<Development>,
    #[deserr(default)]
    pub(super) log: LogSettings,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: String,
    pub(super) key: String,
    #[deserr(default)]
    pub(super) client_ca: Option<String>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Caller {
    #[deserr(default)]
    pub(super) env: Option<String>,
    #[deserr(default)]
    pub(super) digest: Option<Digest>,
    #[deserr(default = Permission::Sign)]
    pub(super) may: Permission,
}

/// What a caller may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Permission {
    /// Everything.
    Sign,
    /// Public keys and metrics, but no signatures.
    Read,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Token {
    pub(super) module: String,
    #[deserr(default)]
    pub(super) label: Option<String>,
    #[deserr(default)]
    pub(super) serial: Option<String>,
    pub(super) pin: Pin,
    #[deserr(default = 4)]
    pub(super) sessions: usize,
    #[deserr(default = 256)]
    pub(super) queue: usize,
    #[deserr(default = HumanDuration(Duration::from_secs(5)))]
    pub(super) deadline: HumanDuration,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Pin {
    #[deserr(default)]
    pub(super) env: Option<String>,
    #[deserr(default)]
    pub(super) file: Option<String>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Signer {
    pub(super) label: String,
    #[deserr(default)]
    pub(super) uses: Option<Vec<String>>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Development {
    #[deserr(default)]
    pub(super) key: Option<String>,
}
