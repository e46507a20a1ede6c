//! TLS with the proxy: which certificates are accepted, and how the host authenticates.

use std::net::TcpListener;
use std::sync::Arc;

use crate::support::{Kms, RegistryDir, SIGNER, start, verifies};
use postern_signing::{Auth, ProxySettings, Settings, SettingsError, Signing, StartError};
use postern_testbed::certificates::{Authority, Identity, Validity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use secrecy::SecretString;

/// A server with a certificate, which requires a client certificate if `client_ca` is given.
fn server(identity: &Identity, client_ca: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_ca {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

fn client_certificate(identity: &Identity) -> Auth {
    Auth::Certificate {
        certificate_pem: identity.certificate_pem.clone(),
        key_pem: SecretString::from(identity.key_pem.clone()),
    }
}

struct Case {
    what: &'static str,
    bad: ServerConfig,
    /// The server's configuration with which signing succeeds.
    good: ServerConfig,
    auth: Auth,
    code: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_certificates_are_rejected_on_both_sides() {
    let (ours, other) = (Authority::new("ours").unwrap(), Authority::new("other").unwrap());
    let good = ours.server(Validity::Valid).unwrap();
    let known = ours.client("host", Validity::Valid).unwrap();
    let token = || Auth::Bearer(SecretString::from("s3cret"));
    let cases = [
        Case {
            what: "the proxy's certificate is expired",
            bad: server(&ours.server(Validity::Expired).unwrap(), None),
            good: server(&good, None),
            auth: token(),
            code: "tls",
        },
        Case {
            what: "the proxy's certificate is of another CA",
            bad: server(&other.server(Validity::Valid).unwrap(), None),
            good: server(&good, None),
            auth: token(),
            code: "tls",
        },
        Case {
            what: "the proxy's certificate is for clients",
            bad: server(&ours.client("localhost", Validity::Valid).unwrap(), None),
            good: server(&good, None),
            auth: token(),
            code: "tls",
        },
        Case {
            what: "the host has no certificate",
            bad: server(&good, Some(&ours)),
            good: server(&good, None),
            auth: token(),
            code: "tls",
        },
        Case {
            what: "the host's certificate is of another CA",
            bad: server(&good, Some(&other)),
            good: server(&good, Some(&ours)),
            auth: client_certificate(&known),
            code: "tls",
        },
        Case {
            what: "the host's certificate is expired",
            bad: server(&good, Some(&ours)),
            good: server(&good, None),
            auth: client_certificate(&ours.client("host", Validity::Expired).unwrap()),
            code: "tls",
        },
        Case {
            what: "the host's certificate is for servers",
            bad: server(&good, Some(&ours)),
            good: server(&good, None),
            auth: client_certificate(&good),
            code: "tls",
        },
    ];
    for case in cases {
        let what = case.what;
        let (dir, kms) = (RegistryDir::new(), Kms::start_tls(case.bad));
        let signing = start(ProxySettings {
            auth: case.auth,
            ca_pem: Some(ours.pem()),
            ..dir.proxy(&kms)
        });
        let error = signing.sign(b"payload").await.unwrap_err();
        assert_eq!(error.code(), case.code, "{what}: {error}");
        assert_eq!(kms.sign_requests(), 0, "{what}");
        kms.set_tls_config(case.good);
        let signed = signing
            .sign(b"payload")
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(verifies(SIGNER, b"payload", &signed.signature), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_authenticate_with_certificates() {
    let authority = Authority::new("ours").unwrap();
    let kms = Kms::start_tls(server(
        &authority.server(Validity::Valid).unwrap(),
        Some(&authority),
    ));
    let dir = RegistryDir::new();
    let signing = start(ProxySettings {
        auth: client_certificate(&authority.client("host", Validity::Valid).unwrap()),
        ca_pem: Some(authority.pem()),
        ..dir.proxy(&kms)
    });
    let signed = signing.sign(b"payload").await.unwrap();
    assert!(verifies(SIGNER, b"payload", &signed.signature));
    // Without a configured CA only the system's roots are trusted, and the test CA is not among them.
    let system = Signing::start(&Settings {
        proxy: Some(dir.proxy(&kms)),
        required: true,
        development_secret: None,
    });
    match system {
        Ok(signing) => assert_eq!(signing.sign(b"payload").await.unwrap_err().code(), "tls"),
        // Few machines have no roots at all.
        Err(error) => assert!(
            matches!(error, StartError::Settings(SettingsError::NoRoots)),
            "{error}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_an_error() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let mut url = kms.url();
    url.set_scheme("https").unwrap();
    let ca_pem = Some(Authority::new("ours").unwrap().pem());
    let settings = ProxySettings {
        url,
        ca_pem,
        ..dir.proxy(&kms)
    };
    let error = start(settings.clone()).sign(b"payload").await.unwrap_err();
    assert_eq!(error.code(), "tls", "{error}");

    // A server that accepts connections and sends nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let error = start(ProxySettings { url, ..settings })
        .sign(b"payload")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "timeout", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_token_is_sent_and_never_printed() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    kms.require_token("s3cret");
    let with = |auth: Auth| {
        start(ProxySettings {
            auth,
            ..dir.proxy(&kms)
        })
    };
    let right = with(Auth::Bearer(SecretString::from("s3cret")));
    right.sign(b"payload").await.unwrap();
    for auth in [Auth::None, Auth::Bearer(SecretString::from("s3cret but another"))] {
        let error = with(auth).sign(b"payload").await.unwrap_err();
        assert_eq!(error.code(), "unauthorized");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    assert!(!format!("{right:?}").contains("s3cret"), "{right:?}");
}

#[test]
fn invalid_credentials_and_registries_prevent_the_start() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let authority = Authority::new("ours").unwrap();
    let (one, another) = (
        authority.client("a", Validity::Valid).unwrap(),
        authority.client("b", Validity::Valid).unwrap(),
    );
    let certificate = |certificate: &str, key: &str| ProxySettings {
        url: "https://127.0.0.1:1".parse().unwrap(),
        ca_pem: Some(authority.pem()),
        auth: Auth::Certificate {
            certificate_pem: certificate.to_owned(),
            key_pem: SecretString::from(key.to_owned()),
        },
        ..dir.proxy(&kms)
    };
    let token = |token: &str| ProxySettings {
        auth: Auth::Bearer(SecretString::from(token.to_owned())),
        ..dir.proxy(&kms)
    };
    for (proxy, expected) in [
        (token(""), "token is empty"),
        (token("s3cret\n"), "token is empty or has characters"),
        (
            certificate("s3cret", &one.key_pem),
            "the host's certificate is not a certificate",
        ),
        (certificate(&one.certificate_pem, "s3cret"), "is not a key in PEM"),
        (
            certificate(&one.certificate_pem, &another.key_pem),
            "do not match",
        ),
        (
            ProxySettings {
                ca_pem: Some("s3cret".to_owned()),
                ..dir.proxy(&kms)
            },
            "the CA of the signing proxy is not a certificate",
        ),
        (
            ProxySettings {
                registry: "/nowhere/signers.toml".into(),
                ..dir.proxy(&kms)
            },
            "the registry of signers: /nowhere/signers.toml: cannot be read",
        ),
    ] {
        let settings = Settings {
            proxy: Some(proxy),
            required: true,
            development_secret: None,
        };
        let error = Signing::start(&settings).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
    }
}
