//! TLS: the proxy's certificate, and those of its callers.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use axum::{Extension, Router};
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use ct_codecs::{Encoder as _, Hex};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::settings::Tls;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("tls.{field}: {}: {reason}", path.display())]
    File {
        /// Which of the settings names it.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("tls: certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// The certificate that a caller showed; it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer([u8; 32]);

impl Peer {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` has it, in small letters without colons.
    pub(crate) fn sha256(&self) -> String {
        Hex::encode_to_string(self.0).unwrap_or_default()
    }
}

/// Reads the files.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |field, path: &Path, error: &dyn std::fmt::Display| TlsError::File {
        field,
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let chain = certificates(&tls.certificate).map_err(|e| failed("certificate", &tls.certificate, &e))?;
    // What the library says of a key can repeat a part of it.
    let key = File::open(&tls.key).map_err(|e| failed("key", &tls.key, &e))?;
    let key = PrivateKeyDer::from_pem_reader(key)
        .map_err(|_| failed("key", &tls.key, &"holds no private key in PEM"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = versions.with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier: Arc<dyn ClientCertVerifier> = (|| {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| error.to_string())
            })()
            .map_err(|e| failed("client_ca", path, &e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(file).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err("holds no certificate in PEM".to_owned()),
    }
}

/// Accepts TLS, and tells the routes whose certificate was shown.
#[derive(Debug, Clone)]
pub(crate) struct Acceptor(RustlsAcceptor<NoDelayAcceptor>);

impl Acceptor {
    pub(crate) fn new(config: RustlsConfig) -> Self {
        Self(RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new()))
    }
}

impl Accept<TcpStream, Router> for Acceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = Router;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, routes: Router) -> Self::Future {
        let accepting = self.0.accept(stream, routes);
        Box::pin(async move {
            let (stream, routes) = accepting.await?;
            let shown = stream.get_ref().1.peer_certificates();
            let routes = match shown.and_then(<[_]>::first) {
                Some(certificate) => routes.layer(Extension(Peer::of(certificate))),
                None => routes,
            };
            Ok((stream, routes))
        })
    }
}
