//! TLS for servers: the server's certificate, and client certificates.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use ct_codecs::{Encoder as _, Hex};
use http::Request;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use crate::pem;

/// The maximum size of a PEM file, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// The PEM files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain of the server, without the root.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CA of client certificates. If set, clients need one.
    pub client_ca: Option<PathBuf>,
}

/// TLS cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{section}.{field}: {}: {reason}", path.display())]
    File {
        /// The section of the settings that names the files.
        section: &'static str,
        /// The field in that section.
        field: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it. Never a part of the file: it may be the private key.
        reason: String,
    },
    /// Certificate and key do not match or are not supported.
    #[error("{section}: certificate and key cannot be used: {reason}")]
    Pair {
        /// The section of the settings that names the files.
        section: &'static str,
        /// The reason that rustls gives.
        reason: String,
    },
}

/// Builds a configuration for TLS 1.2 and 1.3 with ring. Errors name this section of the settings.
///
/// # Errors
/// If a file cannot be read or parsed, or certificate and key do not match.
pub fn server_config(files: &TlsFiles, section: &'static str) -> Result<Arc<ServerConfig>, TlsError> {
    let read = |field, path: &Path| {
        let text = postern_files::read(path, MAX_FILE_SIZE);
        text.map_err(|error| failed(section, field, path, &error))
    };
    let pair = |error: rustls::Error| TlsError::Pair {
        section,
        reason: error.to_string(),
    };
    let chain = pem::certificates(&read("certificate", &files.certificate)?)
        .map_err(|error| failed(section, "certificate", &files.certificate, &error))?;
    let key = pem::private_key(&read("key", &files.key)?)
        .map_err(|error| failed(section, "key", &files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let failed = |error: &dyn std::fmt::Display| failed(section, "client_ca", path, error);
            let roots = pem::roots(&read("client_ca", path)?).map_err(|error| failed(&error))?;
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| failed(&error))?;
            builder.with_client_cert_verifier(clients)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn failed(
    section: &'static str,
    field: &'static str,
    path: &Path,
    reason: &dyn std::fmt::Display,
) -> TlsError {
    TlsError::File {
        section,
        field,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The verified certificate of a client, as an extension of each request over its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer([u8; 32]);

impl Peer {
    fn from_certificate(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it, in lower case without colons.
    #[must_use]
    pub fn sha256(&self) -> String {
        Hex::encode_to_string(self.0).unwrap_or_default()
    }
}

/// Accepts TLS connections.
#[derive(Debug, Clone)]
pub(crate) struct TlsAcceptor(RustlsAcceptor<NoDelayAcceptor>);

impl TlsAcceptor {
    pub(crate) fn new(config: RustlsConfig) -> Self {
        Self(RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new()))
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for TlsAcceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = PeerService<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, inner: S) -> Self::Future {
        let accepting = self.0.accept(stream, inner);
        Box::pin(async move {
            let (stream, inner) = accepting.await?;
            let shown = stream.get_ref().1.peer_certificates();
            let peer = shown.and_then(<[_]>::first).map(Peer::from_certificate);
            Ok((stream, PeerService { inner, peer }))
        })
    }
}

/// A service that adds the client certificate to each request.
#[derive(Debug, Clone)]
pub(crate) struct PeerService<S> {
    inner: S,
    peer: Option<Peer>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for PeerService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        self.inner.call(request)
    }
}
