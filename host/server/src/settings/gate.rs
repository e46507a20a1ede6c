//! How gates show themselves on TCP, and the host to them.

use std::path::Path;

use deserr::Deserr;
use postern_config::{ConfigErrors, SecretRef};
use postern_serve::tls::TlsFiles;
use postern_serve::{TokenDigest, Variables};

/// The form of `gate`.
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

/// How the host knows its gates on TCP. On a Unix socket, who may open it is one.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// The digest of the token that they show.
    pub token: Option<TokenDigest>,
    /// TLS on every TCP listener: gates show a certificate of the client CA.
    pub tls: Option<TlsFiles>,
}

impl Gate {
    /// Whether a gate can be told from others on TCP.
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
