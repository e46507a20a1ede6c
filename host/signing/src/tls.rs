//! How the host speaks TLS with its proxy: with ring, named here, never with a default of the process.

use std::sync::Arc;

use postern_serve::pem;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;

use crate::settings::{Auth, ProxySettings, SettingsError};

/// TLS as settings want it: the CA's certificates, or else the system's, and the host's own certificate if it has one.
///
/// # Errors
/// If a certificate or key cannot be read, or there is nothing to check the proxy's certificate with.
pub(crate) fn config(settings: &ProxySettings) -> Result<ClientConfig, SettingsError> {
    let roots = match &settings.ca_pem {
        Some(text) => pem::roots(text.as_bytes())
            .map_err(|_| SettingsError::Certificate("the CA of the signing proxy"))?,
        // Nothing is checked with them, and reading them takes a while.
        None if settings.url.scheme() == "http" => RootCertStore::empty(),
        None => of_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        // Not with ring, which has both.
        .map_err(|_| SettingsError::NoRoots)?
        .with_root_certificates(roots);
    let mut config = match &settings.auth {
        Auth::Certificate {
            certificate_pem,
            key_pem,
        } => {
            let chain = pem::certificates(certificate_pem.as_bytes())
                .map_err(|_| SettingsError::Certificate("the host's certificate"))?;
            let key = pem::private_key(key_pem.expose_secret().as_bytes()).map_err(|_| SettingsError::Key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| SettingsError::Pair)?
        }
        Auth::None | Auth::Bearer(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn of_system() -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    // A system may have one that cannot be read among many that can.
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(SettingsError::NoRoots);
    }
    Ok(roots)
}
