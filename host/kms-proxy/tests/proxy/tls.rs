//! TLS, and callers authenticated by their certificates.

use std::path::Path;

use ct_codecs::{Base64, Decoder as _, Encoder as _, Hex};
use postern_testbed::certificates::{Authority, Identity, Validity};
use postern_testbed::kms_proxy::{KmsClient, KmsProxy, TOKEN};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{audit, binary, is_signed_by, until};

struct Fixture {
    proxy: KmsProxy,
    authority: Authority,
    clients: Authority,
}

/// Starts a proxy with a server certificate that requires client certificates.
fn mutual(callers: &Value) -> Fixture {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    let (authority, clients) = (
        Authority::new("servers").unwrap(),
        Authority::new("clients").unwrap(),
    );
    serve_as(&proxy, &authority);
    clients.write(proxy.folder(), "clients").unwrap();
    let mut settings = proxy.settings(&["a"]);
    settings["callers"] = callers.clone();
    settings["tls"] =
        json!({"certificate": "server.pem", "key": "server.key.pem", "client_ca": "clients.pem"});
    proxy.configure(&settings).unwrap();
    proxy.restart().unwrap();
    Fixture {
        proxy,
        authority,
        clients,
    }
}

fn serve_as(proxy: &KmsProxy, authority: &Authority) {
    let server = authority.server(Validity::Valid).unwrap();
    server.write(proxy.folder(), "server").unwrap();
}

fn digest(identity: &Identity) -> String {
    let pem = &identity.certificate_pem;
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = Base64::decode_to_vec(base64.trim(), None).unwrap();
    Hex::encode_to_string(Sha256::digest(der)).unwrap()
}

#[tokio::test]
async fn a_caller_is_authenticated_by_its_certificate() {
    let Fixture {
        proxy,
        authority,
        clients,
    } = mutual(&json!({}));
    let host = clients.client("host", Validity::Valid).unwrap();
    let caller = KmsClient::with_tls(&proxy, &authority.pem(), Some(&host)).unwrap();
    let reply = caller.sign(b"payload", None).await.unwrap();
    assert!(is_signed_by(&proxy, "a", b"payload", &reply), "{reply:?}");
    let name = format!("certificate sha256:{}", digest(&host));
    assert_eq!(audit(&proxy).last().unwrap()["caller"], name);

    let untrusted = Authority::new("clients").unwrap();
    for (why, identity) in [
        ("none", None),
        (
            "another authority's",
            Some(untrusted.client("host", Validity::Valid).unwrap()),
        ),
        (
            "expired",
            Some(clients.client("host", Validity::Expired).unwrap()),
        ),
        (
            "the server's own",
            Some(authority.client("host", Validity::Valid).unwrap()),
        ),
    ] {
        let caller = KmsClient::with_tls(&proxy, &authority.pem(), identity.as_ref()).unwrap();
        for path in ["/healthz", "/signers"] {
            assert!(caller.get(path).await.is_err(), "{why} {path}");
        }
        assert!(caller.sign(b"payload", None).await.is_err(), "{why}");
    }
    assert_eq!(audit(&proxy).len(), 1, "no request was accepted");
    // Without TLS there is no response either.
    assert!(KmsClient::new(&proxy).unwrap().get("/healthz").await.is_err());
}

#[tokio::test]
async fn certificates_and_tokens_together_are_both_required() {
    let Fixture {
        proxy,
        authority,
        clients,
    } = mutual(&json!({"gate": {"env": "KMS_PROXY_TOKEN"}}));
    let host = clients.client("host", Validity::Valid).unwrap();
    let caller = KmsClient::with_tls(&proxy, &authority.pem(), Some(&host)).unwrap();
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 401);
    let with_token = caller.with_token(Some(TOKEN));
    assert_eq!(with_token.sign(b"payload", None).await.unwrap().status, 200);
    let name = format!("gate (certificate sha256:{})", digest(&host));
    assert_eq!(audit(&proxy).last().unwrap()["caller"], name);
    let without_certificate = KmsClient::with_tls(&proxy, &authority.pem(), None)
        .unwrap()
        .with_token(Some(TOKEN));
    assert!(without_certificate.sign(b"payload", None).await.is_err());
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let Fixture {
        proxy,
        authority,
        clients,
    } = mutual(&json!({}));
    let host = clients.client("host", Validity::Valid).unwrap();
    let caller = |authority: &Authority| KmsClient::with_tls(&proxy, &authority.pem(), Some(&host)).unwrap();
    assert_eq!(
        caller(&authority).sign(b"payload", None).await.unwrap().status,
        200
    );

    // A truncated certificate is not applied.
    std::fs::write(proxy.folder().join("server.pem"), "-----BEGIN CERT").unwrap();
    proxy.reload().unwrap();
    let reason = "holds no certificate in PEM";
    until(reason, async || proxy.log().contains(reason)).await;
    assert_eq!(
        caller(&authority).sign(b"payload", None).await.unwrap().status,
        200
    );

    let next = Authority::new("next").unwrap();
    serve_as(&proxy, &next);
    proxy.reload().unwrap();
    until("the next certificate", async || {
        caller(&next).get("/healthz").await.is_ok()
    })
    .await;
    assert!(caller(&authority).get("/healthz").await.is_err());
}

#[test]
fn unusable_files_are_reported() {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    let authority = Authority::new("servers").unwrap();
    let server = authority.server(Validity::Valid).unwrap();
    server.write(proxy.folder(), "server").unwrap();
    server.write(proxy.folder(), "other").unwrap();
    authority
        .server(Validity::Valid)
        .unwrap()
        .write(proxy.folder(), "another")
        .unwrap();
    std::fs::write(proxy.folder().join("empty"), "").unwrap();
    for (certificate, key, client_ca, expected) in [
        ("gone.pem", "server.key.pem", None, "tls.certificate: "),
        ("empty", "server.key.pem", None, "tls.certificate: "),
        ("server.pem", "gone.pem", None, "tls.key: "),
        ("server.pem", "server.pem", None, "tls.key: "),
        (
            "server.pem",
            "another.key.pem",
            None,
            "tls: certificate and key cannot be used",
        ),
        ("server.pem", "server.key.pem", Some("empty"), "tls.client_ca: "),
    ] {
        let mut settings = proxy.settings(&["a"]);
        settings["tls"] = json!({"certificate": certificate, "key": key});
        if let Some(path) = client_ca {
            settings["tls"]["client_ca"] = json!(Path::new(path));
        }
        proxy.configure(&settings).unwrap();
        let error = proxy.restart().unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("exit status: 3"),
            "{error}"
        );
    }
}
