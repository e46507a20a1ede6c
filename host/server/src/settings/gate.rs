//! The `gate` section: how gates and the host authenticate on TCP.

use std::path::Path;

use deserr::Deserr;
use postern_config::{ConfigErrors, SecretRef};
use postern_serve::tls::TlsFiles;
use postern_serve::{TokenDigest, Variables};

/// The schema of `gate`.
#[derive(Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Section {
    #[deserr(default)]
    token: Option<SecretRef>,
    #[deserr(default)]
    tls: Option<TlsSection>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct TlsSection {
    certificate: String,
    key: String,
    client_ca: String,
}

/// How the host authenticates gates on TCP. On a Unix socket, any process that can open it is trusted as a gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// The digest of the gates' bearer token.
    pub token: Option<TokenDigest>,
    /// TLS for every TCP listener; gates need a certificate of the client CA.
    pub tls: Option<TlsFiles>,
}

impl Gate {
    /// Whether gates are authenticated on TCP.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.token.is_some() || self.tls.is_some()
    }
}

pub(super) fn gate(
    section: &Section,
    directory: &Path,
    variables: &Variables<'_>,
    errors: &mut ConfigErrors,
) -> Gate {
    let token = section
        .token
        .as_ref()
        .and_then(|named| variables.named_token("gate.token", named, errors));
    let tls = section.tls.as_ref().map(|tls| TlsFiles {
        certificate: directory.join(&tls.certificate),
        key: directory.join(&tls.key),
        client_ca: Some(directory.join(&tls.client_ca)),
    });
    Gate { token, tls }
}
