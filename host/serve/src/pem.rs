//! Certificates and private keys in PEM.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The PEM text cannot be used. Never includes a part of the text: it may be the private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no certificate, or one of them is invalid.
    #[error("holds no certificate in PEM")]
    Certificates,
    /// There is no private key in a known format.
    #[error("holds no private key in PEM (PKCS#8, SEC1 or PKCS#1)")]
    Key,
}

/// Parses the certificates, at least one.
///
/// # Errors
/// If there is none, or one of them is invalid.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or(PemError::Certificates)
}

/// Parses the certificates as trusted roots.
///
/// # Errors
/// As [`certificates`], and if one of them cannot be a root.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|_| PemError::Certificates)?;
    }
    Ok(roots)
}

/// Parses the first private key.
///
/// # Errors
/// If there is none.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| PemError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_pem_is_rejected() {
        for text in ["", "hunter2"] {
            let error = certificates(text.as_bytes()).err();
            assert_eq!(error, Some(PemError::Certificates), "{text}");
            let error = private_key(text.as_bytes()).err();
            assert_eq!(error, Some(PemError::Key), "{text}");
        }
    }

    #[test]
    fn an_invalid_certificate_is_not_a_root() {
        let text = "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n";
        assert_eq!(roots(text.as_bytes()).err(), Some(PemError::Certificates));
    }
}
