//! A private certification authority that issues certificates for servers on the loopback address and for clients.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Generating a key or a certificate failed.
pub type CertificateError = rcgen::Error;

/// The validity period of a certificate; it starts with the year 2020.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Valid until 2120.
    Valid,
    /// Expired since 2021.
    Expired,
}

/// Issues certificates. Each authority has its own key, so none of them verifies certificates of another.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its private key, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key (PKCS#8, ECDSA on P-256).
    pub key_pem: String,
}

/// The files of a written [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// `<name>.pem`.
    pub certificate: PathBuf,
    /// `<name>.key.pem`.
    pub key: PathBuf,
}

impl Authority {
    /// Creates an authority with a new key.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be generated.
    pub fn new(name: &str) -> Result<Self, CertificateError> {
        let mut params = params(name, Vec::new(), Validity::Valid)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// The authority's own certificate as PEM: the trust anchor for clients and servers.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the authority's own certificate as `<name>.pem`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        write(folder, &format!("{name}.pem"), &self.pem())
    }

    /// Issues a certificate for a server at `localhost`, 127.0.0.1 and ::1.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be generated.
    pub fn server(&self, validity: Validity) -> Result<Identity, CertificateError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        self.issue(
            "localhost",
            names.to_vec(),
            validity,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// Issues a certificate for a client of this name.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be generated.
    pub fn client(&self, name: &str, validity: Validity) -> Result<Identity, CertificateError> {
        let names = vec![name.to_owned()];
        self.issue(name, names, validity, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        subject: &str,
        names: Vec<String>,
        validity: Validity,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, CertificateError> {
        let mut params = params(subject, names, validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl Identity {
    /// Writes `<name>.pem` and `<name>.key.pem`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<IdentityFiles> {
        Ok(IdentityFiles {
            certificate: write(folder, &format!("{name}.pem"), &self.certificate_pem)?,
            key: write(folder, &format!("{name}.key.pem"), &self.key_pem)?,
        })
    }
}

fn params(
    subject: &str,
    names: Vec<String>,
    validity: Validity,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, subject.to_owned());
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = match validity {
        Validity::Valid => date_time_ymd(2120, 1, 1),
        Validity::Expired => date_time_ymd(2021, 1, 1),
    };
    Ok(params)
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}
