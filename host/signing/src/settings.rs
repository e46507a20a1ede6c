//! What signing needs to know, as the host's settings say it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use postern_signers::Use;
use secrecy::SecretString;
use url::{Host, Url};

use crate::breaker::BreakerSettings;

/// How a host signs. The development signer needs none of it, so the default is one.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The KMS proxy: `SIGNING_PROXY_URL` or `KMS_ENDPOINT`.
    pub proxy: Option<ProxySettings>,
    /// Whether there must be one: `REQUIRE_SIGNING_PROXY=1` or `REQUIRE_KMS=true`.
    pub required: bool,
    /// What the development signer's key is made of: `REPOWRITER_SIGNING_SECRET`.
    pub development_secret: Option<SecretString>,
}

/// The KMS proxy, and whose signatures count.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where it is. `/sign` and `/healthz` are appended to its path.
    pub url: Url,
    /// How the host shows who it is.
    pub auth: Auth,
    /// The certificates, PEM, that vouch for the proxy's; the system's roots do not count then.
    pub ca_pem: Option<String>,
    /// The registry of signers, `signers.toml`.
    pub registry: PathBuf,
    /// Who must sign. Can be changed while it runs.
    pub selection: SignerSelection,
    /// How long a signature may take, retries included.
    pub deadline: Duration,
    /// How long a connection may take to be made, TLS included.
    pub connect: Duration,
    /// When the circuit breaker opens, and for how long.
    pub breaker: BreakerSettings,
}

/// Who is asked to sign. An answer of another is refused, also during a rotation: first the new signer is added to the
/// registry, then this is changed, then the old one is retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerSelection {
    /// The one who must sign: `SIGNER_ID`. Unless given, the proxy chooses, and each active signer of the registry counts
    /// for its uses.
    pub signer_id: Option<String>,
    /// Those who must sign for a use, in its place.
    pub uses: BTreeMap<Use, String>,
    /// Whether requests to the proxy name the signer. One that holds a single key need not know the field.
    pub send_signer_id: bool,
}

impl SignerSelection {
    /// The one who must sign for a use, if it is said.
    #[must_use]
    pub fn signer(&self, what: Use) -> Option<&str> {
        self.uses
            .get(&what)
            .or(self.signer_id.as_ref())
            .map(String::as_str)
    }

    /// Checks ids, and that the proxy can know who is meant.
    ///
    /// # Errors
    /// The first thing that is wrong.
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
    /// The default deadline of a signature.
    pub const DEADLINE: Duration = Duration::from_secs(2);
    /// The default deadline of a connection.
    pub const CONNECT: Duration = Duration::from_millis(500);

    /// A proxy with the default deadlines, which asks for no credentials.
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

/// How a host shows the proxy who it is.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// It does not: the network vouches for it.
    #[default]
    None,
    /// With a token: `SIGNING_PROXY_API_KEY`.
    Bearer(SecretString),
    /// With a certificate (mTLS).
    Certificate {
        /// The certificate, and those between it and its authority, PEM.
        certificate_pem: String,
        /// Its private key, PEM.
        key_pem: SecretString,
    },
}

/// Settings that cannot be used. No secret is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL has another scheme, or no host.
    #[error("the signing proxy's URL is none: write https://host or https://host:port/path")]
    InvalidUrl,
    /// The URL has more than a path.
    #[error("the signing proxy's URL has a user, a password, a query or a fragment: it ends with its path")]
    UrlParts,
    /// Neither payloads nor tokens go over a network in clear.
    #[error("the signing proxy's URL is plain http, and not to this machine: write https://")]
    PlainHttp,
    /// A certificate is shown over TLS only.
    #[error(
        "the signing proxy's URL is plain http, where no certificate is shown: write https://, or use a token"
    )]
    CertificateOverHttp,
    /// The token cannot stand in a header.
    #[error("the signing proxy's token is empty, or has characters that no header may have")]
    InvalidToken,
    /// No id.
    #[error(
        "a signer's id (SIGNER_ID, signing.signer, signing.uses) has 1 to 128 letters, digits, and . _ - : /"
    )]
    InvalidSignerId,
    /// Several signers, between whom the proxy cannot choose.
    #[error(
        "signing.uses names other signers than signing.signer, and requests to the signing proxy name none: set \
         signing.send_signer_id: true, if it takes a signer_id, as `postern kms-proxy` does"
    )]
    SignerIdNotSent,
    /// The deadline is zero or over a minute.
    #[error("the signing proxy's deadlines are to be between 1 ms and 1 minute")]
    InvalidDeadline,
    /// Text that holds no certificates.
    #[error("{0}: is no certificate in PEM")]
    Certificate(&'static str),
    /// Text that holds no private key.
    #[error("the private key of the host's certificate: is no key in PEM (PKCS#8, SEC1 or PKCS#1)")]
    Key,
    /// The two do not belong together.
    #[error("the host's certificate and its private key do not belong together")]
    Pair,
    /// The system has no roots of trust.
    #[error("the system has no roots of trust to check the signing proxy's certificate with: name a CA")]
    NoRoots,
    /// Too little to make a key of.
    #[error("REPOWRITER_SIGNING_SECRET is shorter than 16 bytes: make one with `openssl rand -hex 32`")]
    ShortSecret,
}

impl ProxySettings {
    /// Checks what types do not: addresses, ids, deadlines.
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
        let sensible = Duration::from_millis(1)..=Duration::from_secs(60);
        if !sensible.contains(&self.deadline) || !sensible.contains(&self.connect) {
            return Err(SettingsError::InvalidDeadline);
        }
        Ok(())
    }

    /// An endpoint of the proxy.
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
    fn urls() {
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
    fn what_else_is_refused() {
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
