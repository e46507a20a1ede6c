//! Liveness, readiness and strict health.

use crate::support::{TOKEN, WorkDir, allowing_module, get};
use jwt_simple::prelude::{Claims, Duration, Ed25519KeyPair, EdDSAKeyPairLike as _};
use postern_server::{Host, StartError};

const HOST: &str = "listen: ['unix:host.sock']\nadmin: {listen: 'unix:admin.sock'}\n\
                    policies: {entries: {'yes': {file: yes.wasm}}}\n";

fn dir() -> WorkDir {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir
}

#[tokio::test]
async fn liveness_has_a_timestamp() {
    let dir = dir();
    let host = dir.try_start(HOST).await.unwrap();
    let alive = get(&host, "/health").await.json();
    assert_eq!(alive["status"], "ok");
    assert!(alive["ts"].as_str().unwrap().ends_with('Z'), "{alive}");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn an_invalid_licence_fails_strict_health_but_not_readiness() {
    let dir = dir();
    let key = Ed25519KeyPair::generate();
    let license = |seconds| {
        let claims = Claims::create(Duration::from_secs(seconds)).with_subject("us");
        key.sign(claims).unwrap()
    };
    let public = key.public_key().to_pem();
    let file = dir.file("licensor.pem", public.as_bytes());
    let file = file.to_str().unwrap();
    let mut claims = Claims::create(Duration::from_secs(1));
    claims.expires_at = Some(Duration::from_secs(1_000_000));
    let expired = key.sign(claims).unwrap();
    for (environment, expected) in [
        (vec![], None),
        (
            vec![("LICENSE_REQUIRED", "true"), ("LICENSE_PUBLIC_KEY", &*public)],
            Some("LICENSE_KEY is not"),
        ),
        (
            vec![("LICENSE_KEY", &*license(60)), ("LICENSE_PUBLIC_KEY", &*public)],
            None,
        ),
        (
            vec![("LICENSE_KEY", &*license(60)), ("LICENSE_PUBLIC_KEY_PATH", file)],
            None,
        ),
        (
            vec![("LICENSE_KEY", &*expired), ("LICENSE_PUBLIC_KEY", &*public)],
            Some("expired"),
        ),
        (
            vec![("LICENSE_KEY", "a.b.c"), ("LICENSE_PUBLIC_KEY", &*public)],
            Some("not signed"),
        ),
    ] {
        let host = Host::start(dir.settings_with(HOST, &environment)).await.unwrap();
        let strict = get(&host, "/healthz/strict").await;
        assert_eq!(get(&host, "/readyz").await.status, 200);
        let reported = strict.json()["parts"]["license"].clone();
        let valid = format!("postern_license_valid {}\n", u8::from(expected.is_none()));
        assert!(get(&host, "/metrics").await.body.contains(&valid), "{valid}");
        match expected {
            None => assert_eq!(strict.status, 200, "{strict:?}"),
            Some(fault) => {
                assert_eq!(strict.status, 503);
                assert!(reported.as_str().unwrap().contains(fault), "{reported}");
            }
        }
        host.stop().await.unwrap();
    }
}

/// If signing is required, a host is not ready without it; otherwise only strict health fails.
#[tokio::test]
async fn an_unreachable_proxy_fails_readiness_only_if_required() {
    let dir = dir();
    dir.file("signers.toml", b"");
    for (required, ready) in [("true", 503), ("false", 200)] {
        let signing = "signing: {proxy: 'http://127.0.0.1:1', signers: signers.toml}";
        let settings = dir.settings_with(&format!("{HOST}{signing}"), &[("REQUIRE_KMS", required)]);
        let host = Host::start(settings).await.unwrap();
        let readiness = get(&host, "/readyz").await;
        assert_eq!(readiness.status, ready, "{readiness:?}");
        let strict = get(&host, "/healthz/strict").await;
        assert_eq!(strict.status, 503);
        let fault = strict.json()["parts"]["signing"].as_str().unwrap().to_owned();
        assert!(fault.starts_with("unreachable: "), "{fault}");
        host.stop().await.unwrap();
    }
}

/// Signers that were retired since would stay trusted, so strict health fails.
#[tokio::test]
async fn a_registry_that_cannot_be_reloaded_fails_strict_health() {
    let dir = dir();
    let signing = "signing: {proxy: 'http://127.0.0.1:1', signers: signers.toml}";
    let path = dir.file("signers.toml", b"");
    let host = dir.try_start(&format!("{HOST}{signing}")).await.unwrap();
    let fault = async |expected: bool| {
        for _ in 0..100 {
            let strict = get(&host, "/healthz/strict").await.json();
            if strict["parts"]["signers"].is_string() == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{expected}");
    };
    fault(false).await;
    std::fs::remove_file(&path).unwrap();
    fault(true).await;
    dir.file("signers.toml", b"");
    fault(false).await;
    std::fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    fault(true).await;
    std::fs::remove_file(&path).unwrap();
    dir.file("signers.toml", b"= no registry");
    fault(true).await;
    host.stop().await.unwrap();
}

/// A host does not start with a log that cannot be opened or was tampered with.
#[tokio::test]
async fn a_host_does_not_start_without_its_log() {
    let dir = dir();
    let text = format!("{HOST}signing: {{}}\naudit: {{store: 'sqlite:no/where/audit.db'}}");
    assert!(matches!(dir.try_start(&text).await, Err(StartError::Audit(_))));
}

#[tokio::test]
async fn invalid_signing_settings_are_rejected() {
    let dir = dir();
    dir.file("signers.toml", b"");
    let with_proxy = "signing: {proxy: 'https://kms.example', signers: signers.toml}";
    for (text, environment, expected) in [
        ("", vec![("REQUIRE_SIGNING_PROXY", "1")], "SIGNING_PROXY_URL"),
        ("", vec![("REQUIRE_KMS", "maybe")], "must be true or false"),
        (
            with_proxy,
            vec![("REPOWRITER_SIGNING_SECRET", TOKEN), ("REQUIRE_KMS", "true")],
            "for development only",
        ),
        (
            with_proxy,
            vec![("REPOWRITER_SIGNING_SECRET", TOKEN)],
            "would never be used",
        ),
        (
            "signing: {proxy: 'https://kms.example'}",
            vec![],
            "registry of signers",
        ),
        (
            "",
            vec![
                ("SIGNING_PROXY_URL", "https://a.example"),
                ("KMS_ENDPOINT", "https://b.example"),
            ],
            "differ",
        ),
        ("audit: {}", vec![], "needs \"signing\""),
    ] {
        let all = format!("{HOST}{text}");
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let errors = postern_server::Settings::parse(&all, &dir.path(""), &variable).unwrap_err();
        let errors: Vec<_> = errors.issues().iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:?}"
        );
        assert!(!errors.concat().contains(TOKEN), "{errors:?}");
    }
    let text = HOST.replace("unix:host.sock", "127.0.0.1:0") + "signing: {}";
    let errors = postern_server::Settings::parse(&text, &dir.path(""), &|_| None).unwrap_err();
    assert!(errors.to_string().contains("needs a token or TLS"), "{errors}");
}
