//! TLS: of gates, who show a certificate of their own CA, and towards others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::settings::Tls;

/// The largest file of TLS, in bytes.
const LARGEST: u64 = 1 << 20;

/// Files that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("gate.tls: {path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never a part of it: it may be the private key.
        problem: &'static str,
    },
    /// The files do not fit together.
    #[error("gate.tls: {0}")]
    Together(String),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |problem| TlsError::File {
        path: path.to_owned(),
        problem,
    };
    let text = postern_files::read(path, LARGEST).map_err(|_| failed("cannot be read"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(failed("holds no certificates in PEM")),
    }
}

/// TLS 1.2 and 1.3 with ring, for clients with a certificate of the CA and for no others.
pub(crate) fn server(files: &Tls) -> Result<RustlsConfig, TlsError> {
    let together = |error: &dyn std::fmt::Display| TlsError::Together(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.client_ca)? {
        roots.add(root).map_err(|error| together(&error))?;
    }
    let gates = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| together(&error))?;
    let unusable = |problem| TlsError::File {
        path: files.key.clone(),
        problem,
    };
    let key = postern_files::read(&files.key, LARGEST).map_err(|_| unusable("cannot be read"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unusable("holds no private key in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| together(&error))?
        .with_client_cert_verifier(gates)
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| together(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// A client for servers that the system's CAs vouch for. It follows no redirects.
pub(crate) fn client() -> Result<reqwest::Client, String> {
    let built = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    built.map_err(|error| error.to_string())
}
