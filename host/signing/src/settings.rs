//! Settings of signing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use postern_signers::Use;
use secrecy::SecretString;
use url::{Host, Url};

use crate::breaker::BreakerSettings;

/// How a host signs. The default is the development signer with a random key.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The KMS proxy: `SIGNING_PROXY_URL` or `KMS_ENDPOINT`.
    pub proxy: Option<ProxySettings>,
    /// Whether a proxy is required: `REQUIRE_SIGNING_PROXY=1` or `REQUIRE_KMS=true`.
    pub required: bool,
    /// The secret from which the development signer's keys are derived: `REPOWRITER_SIGNING_SECRET`.
    pub development_secret: Option<SecretString>,
}

/// The KMS proxy, and the trusted signers.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// The proxy's URL. `/sign` and `/healthz` are appended to its path.
    pub url: Url,
    /// How the host authenticates to the proxy.
    pub auth: Auth,
    /// CA certificates for the proxy's certificate, PEM; they replace the system's roots.
    pub ca_pem: Option<String>,
    /// The registry of signers, `signers.toml`.
    pub registry: PathBuf,
    /// Which signers must sign. Can be changed without a restart.
    pub selection: SignerSelection,
    /// Deadline of a signature, retries included.
    pub deadline: Duration,
    /// Deadline of connecting, TLS included.
    pub connect: Duration,
    pub breaker: BreakerSettings,
}

/// Which signers must sign. A signature by another signer is rejected, also during a rotation: first the new signer is
/// added to the registry, then this selection is changed, then the old signer is retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerSelection {
    /// The signer that must sign: `SIGNER_ID`. Without it, the proxy chooses, and every active signer of the registry is
    /// accepted for its uses.
    pub signer_id: Option<String>,
    /// Signers that must sign for a use, in place of `signer_id`.
    pub uses: BTreeMap<Use, String>,
    /// Whether requests to the proxy name the signer. A proxy with a single key may not know the field.
    pub send_signer_id: bool,
}

impl SignerSelection {
    /// The signer that must sign for a use; `None` if the proxy chooses.
    #[must_use]
    pub fn signer(&self, for_use: Use) -> Option<&str> {
        self.uses
            .get(&for_use)
            .or(self.signer_id.as_ref())
            .map(String::as_str)
    }

    /// Validates the ids, and that requests name the signer if several must sign.
    ///
    /// # Errors
    /// The first problem found.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let ids = self.uses.values().chain(&self.signer_id);
        if !ids.into_iter().all(|id| postern_signers::is_signer_id(id)) {
            return Err(SettingsError::InvalidSignerId);
        }
        let another = self.uses.values().any(|id| Some(id) != self.signer_id.as_ref());
        if another && !self.send_signer_id {
            return Err(SettingsError::SignerIdNotSent);
        }
        Ok(())
    }
}

impl ProxySettings {
    /// Default deadline of a signature.
    pub const DEADLINE: Duration = Duration::from_secs(2);
    /// Default deadline of connecting.
    pub const CONNECT: Duration = Duration::from_millis(500);

    /// A proxy with the default deadlines and without authentication.
    #[must_use]
    pub fn new(url: Url, registry: PathBuf) -> Self {
        Self {
            url,
            auth: Auth::None,
            ca_pem: None,
            registry,
            selection: SignerSelection::default(),
            deadline: Self::DEADLINE,
            connect: Self::CONNECT,
            breaker: BreakerSettings::default(),
        }
    }
}

/// How a host authenticates to the proxy.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not at all: the network restricts who can connect.
    #[default]
    None,
    /// With a bearer token: `SIGNING_PROXY_API_KEY`.
    Bearer(SecretString),
    /// With a client certificate (mTLS).
    Certificate {
        /// The certificate and its intermediates, PEM.
        certificate_pem: String,
        /// The certificate's private key, PEM.
        key_pem: SecretString,
    },
}

/// Why settings are invalid. The text contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL's scheme is not http or https, or it has no host.
    #[error("the signing proxy's URL is invalid: write https://host or https://host:port/path")]
    InvalidUrl,
    /// The URL has parts other than scheme, host, port and path.
    #[error("the signing proxy's URL has a user, a password, a query or a fragment: remove it")]
    UrlParts,
    /// Payloads and tokens must not cross a network in clear text.
    #[error("the signing proxy's URL is plain http to another machine: use https://")]
    PlainHttp,
    /// A client certificate needs TLS.
    #[error(
        "the signing proxy's URL is plain http, which has no client certificates: use https://, or a token"
    )]
    CertificateOverHttp,
    /// The token is empty or is not a valid header value.
    #[error("the signing proxy's token is empty or has characters that are invalid in a header")]
    InvalidToken,
    /// A signer's id is invalid.
    #[error(
        "a signer id (SIGNER_ID, signing.signer, signing.uses) is invalid: use 1 to 128 letters, digits, and . _ - : /"
    )]
    InvalidSignerId,
    /// Several signers must sign, but requests do not name the signer.
    #[error(
        "signing.uses names other signers than signing.signer, but requests to the signing proxy do not name the signer: \
         set signing.send_signer_id: true if it accepts a signer_id, as `postern kms-proxy` does"
    )]
    SignerIdNotSent,
    /// A deadline is out of range.
    #[error("the signing proxy's deadlines must be between 1 ms and 1 minute")]
    InvalidDeadline,
    /// A certificate is not PEM. Holds which one.
    #[error("{0} is not a certificate in PEM")]
    Certificate(&'static str),
    /// The private key is not PEM.
    #[error("the private key of the host's certificate is not a key in PEM (PKCS#8, SEC1 or PKCS#1)")]
    Key,
    /// The private key is not the certificate's.
    #[error("the host's certificate and private key do not match")]
    Pair,
    /// The system has no trusted root certificates.
    #[error(
        "the system has no trusted root certificates to verify the signing proxy's certificate against: configure a CA"
    )]
    NoRoots,
    /// The development secret is too short.
    #[error("REPOWRITER_SIGNING_SECRET is shorter than 16 bytes: generate one with `openssl rand -hex 32`")]
    ShortSecret,
}

impl ProxySettings {
    /// Validates what the types do not: the URL, signer ids, deadlines.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let plain = match self.url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(SettingsError::InvalidUrl),
        };
        let host = self.url.host().ok_or(SettingsError::InvalidUrl)?;
        let credentials = !self.url.username().is_empty() || self.url.password().is_some();
        if credentials || self.url.query().is_some() || self.url.fragment().is_some() {
            return Err(SettingsError::UrlParts);
        }
        if plain && !is_loopback(&host) {
            return Err(SettingsError::PlainHttp);
        }
        if plain && matches!(self.auth, Auth::Certificate { .. }) {
            return Err(SettingsError::CertificateOverHttp);
        }
        self.selection.check()?;
        let allowed = Duration::from_millis(1)..=Duration::from_secs(60);
        if !allowed.contains(&self.deadline) || !allowed.contains(&self.connect) {
            return Err(SettingsError::InvalidDeadline);
        }
        Ok(())
    }

    /// The URL of an endpoint of the proxy.
    pub(crate) fn endpoint(&self, name: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{name}", self.url.path().trim_end_matches('/')));
        url
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str) -> ProxySettings {
        ProxySettings::new(Url::parse(url).unwrap(), PathBuf::from("signers.toml"))
    }

    #[test]
    fn urls_are_validated_and_endpoints_appended() {
        for (url, expected) in [
            ("https://kms.example", Ok("https://kms.example/sign")),
            (
                "https://kms.example:8443/v1/",
                Ok("https://kms.example:8443/v1/sign"),
            ),
            ("http://127.0.0.1:7000", Ok("http://127.0.0.1:7000/sign")),
            ("http://[::1]:7000", Ok("http://[::1]:7000/sign")),
            ("http://localhost:7000", Ok("http://localhost:7000/sign")),
            ("http://kms.example", Err(SettingsError::PlainHttp)),
            ("http://10.0.0.1", Err(SettingsError::PlainHttp)),
            ("http://localhost.example", Err(SettingsError::PlainHttp)),
            ("unix:/run/kms.sock", Err(SettingsError::InvalidUrl)),
            ("https://me:word@kms.example", Err(SettingsError::UrlParts)),
            ("https://kms.example/?key=1", Err(SettingsError::UrlParts)),
            ("https://kms.example/#a", Err(SettingsError::UrlParts)),
        ] {
            let proxy = proxy(url);
            let found = proxy.check().map(|()| proxy.endpoint("sign").to_string());
            assert_eq!(found, expected.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn invalid_settings_are_rejected() {
        let certificate = Auth::Certificate {
            certificate_pem: String::new(),
            key_pem: SecretString::from(""),
        };
        let good = proxy("http://127.0.0.1:1");
        for (settings, expected) in [
            (
                ProxySettings {
                    auth: certificate,
                    ..good.clone()
                },
                SettingsError::CertificateOverHttp,
            ),
            (
                ProxySettings {
                    selection: SignerSelection {
                        signer_id: Some("a b".to_owned()),
                        ..SignerSelection::default()
                    },
                    ..good.clone()
                },
                SettingsError::InvalidSignerId,
            ),
            (
                ProxySettings {
                    selection: SignerSelection {
                        signer_id: Some("a".to_owned()),
                        uses: BTreeMap::from([(Use::Checkpoint, "b".to_owned())]),
                        send_signer_id: false,
                    },
                    ..good.clone()
                },
                SettingsError::SignerIdNotSent,
            ),
            (
                ProxySettings {
                    deadline: Duration::ZERO,
                    ..good.clone()
                },
                SettingsError::InvalidDeadline,
            ),
            (
                ProxySettings {
                    connect: Duration::from_secs(61),
                    ..good.clone()
                },
                SettingsError::InvalidDeadline,
            ),
        ] {
            assert_eq!(settings.check(), Err(expected));
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let settings = Settings {
            proxy: Some(ProxySettings {
                auth: Auth::Bearer(SecretString::from("s3cret")),
                ..proxy("http://127.0.0.1:1")
            }),
            required: false,
            development_secret: Some(SecretString::from("s3cret of development")),
        };
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
