//! Configurations: what is wrong is refused with every error named, what is in force stays in force, and no secret
//! is written anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use postern_e2e::{Call, Fixture, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::sample_api::SampleApi;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

/// What somebody wrote where only its digest or its variable's name belongs.
const PASTED: &str = "a-secret-pasted-into-the-configuration";

/// Configurations that Envoy must not start with, and what its log must say.
#[test]
fn a_wrong_configuration_is_refused_with_all_its_errors() {
    let open = json!([{"name": "open", "open": true}]);
    let many = json!({
        "issuers": {"demo": {
            "issuer": "", "audiences": [], "algorithms": ["HS256", "RS256"], "secret": {"env": "SECRET"},
        }},
        "limits": {"often": {"quota": 0, "window": "1s", "key": ["subjekt"]}},
        "rules": [
            {"name": "a", "match": {"path": {"exact": "/a/../b"}}},
            {"name": "a", "open": true, "limits": ["oftn"]},
            {"name": "b", "authenticate": {"any": ["issuers/demmo"]}},
        ],
    });
    let misspelt = json!({"rules": [{"nam": "a", "open": "yes", "limit": []}], "defualt": "deny"});
    let github = json!({
        "signatures": {"hook": {"scheme": "github", "secrets": [{"env": "HOOK_SECRET"}]}}, "rules": open,
    });
    let short = json!({
        "issuers": {"demo": {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "SECRET"}}},
        "rules": open,
    });
    let cases = [
        (
            "many errors",
            Setup::new(many).env("SECRET", &"s".repeat(32)),
            vec![
                "postern: configuration refused:",
                "issuers.demo.issuer: must not be empty",
                "issuers.demo.audiences: must name at least one audience",
                "issuers.demo.algorithms: HS256 cannot be combined",
                "limits.often.key[0]: unknown part \"subjekt\"; did you mean \"subject\"?",
                "limits.often.quota: must be at least 1",
                "rules[0]: needs \"authenticate: {any: [...]}\", or \"open: true\"",
                "rules[0].match.path: \"/a/../b\" would never match",
                "rules[1].name: \"a\" is the name of rules[0] too",
                "rules[1].limits[0]: no limit \"oftn\"; did you mean \"often\"?",
                "rules[2].authenticate.any[0]: no issuer \"demmo\"; did you mean \"demo\"?",
            ],
        ),
        (
            "misspelt fields",
            Setup::new(misspelt),
            vec![
                "rules[0]: unknown field \"nam\"",
                "rules[0]: needs the field \"name\"",
                "rules[0].open: expected",
                "rules[0]: unknown field \"limit\"",
                "unknown field \"defualt\"",
            ],
        ),
        (
            "a variable that is not set",
            Setup::new(github.clone()).env_missing("HOOK_SECRET"),
            vec![
                "signatures.hook.secrets[0].env: HOOK_SECRET is not set; pass it to the VM in environment_variables.host_env_keys",
            ],
        ),
        (
            "a variable that is set but not passed",
            Setup::new(github.clone()).env("ANOTHER", "1"),
            vec!["HOOK_SECRET is not set"],
        ),
        (
            "an empty secret",
            Setup::new(github).env("HOOK_SECRET", ""),
            vec!["HOOK_SECRET is not set"],
        ),
        (
            "a secret too short",
            Setup::new(short).env("SECRET", "31-bytes-31-bytes-31-bytes-31-b"),
            vec!["issuers.demo.secret: is shorter than the 32 bytes"],
        ),
    ];
    for (name, setup, expected) in cases {
        expect_refusal(name, &setup, &expected);
    }
}

fn expect_refusal(case: &str, setup: &Setup, messages: &[&str]) {
    let log = setup.refused(case);
    for message in messages {
        assert!(log.contains(message), "{case}: no {message:?} in\n{log}");
    }
    for secret in [PASTED, "31-bytes", "ssssssss"] {
        assert!(!log.contains(secret), "{case}: {secret:?} in\n{log}");
    }
}

/// A rule that requires a claim to be `true`, which has to be written as text. If the requirement were dropped instead
/// of refused, every token would pass.
#[test]
fn a_claim_required_as_something_else_than_text_is_refused() {
    let gate = json!({
        "issuers": {"demo": {
            "issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks": {"uri": "http://idp/", "cluster": "idp"},
        }},
        "rules": [{
            "name": "verified", "authenticate": {"any": ["issuers/demo"]},
            "authorize": {"claims": {"email_verified": true}},
        }],
    });
    let message = "rules[0].authorize.claims.email_verified: expected";
    expect_refusal("a claim that is no text", &Setup::new(gate), &[message]);
}

/// Errors of shape inside what has a name: each with its path, and without the value, which may be a secret.
#[test]
fn errors_inside_named_entries_are_found() {
    let issuer = json!({
        "issuer": "i", "audiences": ["a"], "algorithms": ["none"], "leway": "5s",
        "jwks": {"uri": "http://idp/", "cluster": "idp", "refresh": "soon"}, "headers": {"x-age": 1},
    });
    let gate = json!({
        "issuers": {"demo": issuer},
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": PASTED}]}},
        "signatures": {"hook": {"scheme": "github", "secrets": [PASTED]}},
        "limits": {"few": {"quota": "5", "window": "10 parsecs", "key": ["address"]}},
        "rules": [{"name": "open", "open": true}],
    });
    let messages = [
        "issuers.demo.algorithms[0]: unknown value \"none\"",
        "issuers.demo: unknown field \"leway\"",
        "issuers.demo.jwks.refresh: \"soon\" is not a duration",
        "issuers.demo.headers.x-age: expected",
        "api_keys.agents.keys[0].digest: not a digest: write sha256:",
        "signatures.hook.secrets[0]: expected",
        "limits.few.quota: expected",
        "limits.few.window: \"10 parsecs\" is not a duration",
    ];
    expect_refusal("named entries", &Setup::new(gate), &messages);
}

/// One rule per path that takes this key.
fn gate(path: &str, key: &str) -> Value {
    json!({
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest(key)}]}},
        "limits": {"few": {"quota": 3, "window": "600s", "key": ["subject"]}},
        "rules": [
            {"name": "limited", "match": {"path": {"exact": "/limited"}}, "authenticate": {"any": ["api_keys/agents"]}, "limits": ["few"]},
            {"name": "moving", "match": {"path": {"exact": path}}, "authenticate": {"any": ["api_keys/agents"]}},
        ],
    })
}

/// A listener as Envoy watches it in a file: put in place whole, so that it is never read half.
fn publish(folder: &Path, listeners: &Value) {
    let resources: Vec<_> = listeners
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            let mut listener = listener.clone();
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
            listener
        })
        .collect();
    let next = folder.join("next.yaml");
    std::fs::write(&next, json!({"resources": resources}).to_string()).unwrap();
    std::fs::rename(next, folder.join("listeners.yaml")).unwrap();
}

async fn until(fixture: &Fixture, name: &str, at_least: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.envoy.stat(name).unwrap_or_default() < at_least {
        assert!(Instant::now() < deadline, "{name} stays under {at_least}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a request gets, on a connection of its own: an update closes those of before.
async fn status(fixture: &Fixture, path: &str, key: &str) -> u16 {
    let call = Call::get(path).api_key(key);
    call.send(&client(Version::Http1), fixture).await.status
}

#[tokio::test]
async fn a_wrong_update_leaves_the_old_configuration_in_force() {
    let idp = IdentityProvider::start().unwrap();
    let api = SampleApi::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(gate("/one", "key-one")).workers(2);
    let parse =
        |setup: &Setup| -> Value { serde_saphyr::from_str(&setup.inline_bootstrap(&idp, &api)).unwrap() };
    let listeners = |gate: Value| parse(&setup.clone().gate(gate))["static_resources"]["listeners"].clone();
    // Wrong in sense, wrong in shape, no object at all.
    let mut unnamed = gate("/two", "key-two");
    unnamed["rules"][1]["authenticate"] = json!({"any": ["api_keys/nobody"]});
    let mut misspelt = gate("/two", "key-two");
    misspelt["rulez"] = json!([]);
    let wrong = [unnamed, misspelt, json!("open: true"), json!({})].map(listeners);
    let right = listeners(gate("/two", "key-two"));

    let mut bootstrap = parse(&setup);
    publish(folder.path(), &bootstrap["static_resources"]["listeners"]);
    bootstrap["static_resources"]
        .as_object_mut()
        .unwrap()
        .remove("listeners");
    bootstrap["node"] = json!({"id": "test", "cluster": "test"});
    let watched = folder.path().join("listeners.yaml");
    bootstrap["dynamic_resources"] =
        json!({"lds_config": {"resource_api_version": "V3", "path_config_source": {"path": watched}}});
    let envoy = setup.envoy(bootstrap.to_string()).start();
    let envoy = envoy.unwrap_or_else(|error| panic!("{error}"));
    let fixture = Fixture { envoy, idp, api };
    let counter = |name: &str| format!("listener_manager.lds.{name}");
    until(&fixture, &counter("update_success"), 1).await;

    let as_at_first = async |case: &str| {
        for _ in 0..4 {
            assert_eq!(status(&fixture, "/one", "key-one").await, 200, "{case}");
            assert_eq!(status(&fixture, "/one", "key-two").await, 401, "{case}");
            assert_eq!(status(&fixture, "/two", "key-one").await, 403, "{case}");
        }
    };
    as_at_first("the first configuration").await;
    assert_eq!(status(&fixture, "/limited", "key-one").await, 200);

    // Each is refused, nothing changes.
    for (count, wrong) in (1..).zip(wrong) {
        publish(folder.path(), &wrong);
        until(&fixture, &counter("update_rejected"), count).await;
        as_at_first(&format!("wrong update {count}")).await;
    }
    let log = fixture.envoy.log();
    assert!(log.contains("rules[1].authenticate.any[0]: no set of API keys \"nobody\""));
    assert!(log.contains("unknown field \"rulez\""));

    // The limit's count survives the update that is right.
    assert_eq!(status(&fixture, "/limited", "key-one").await, 200);
    let successes = fixture.envoy.stat(&counter("update_success")).unwrap();
    publish(folder.path(), &right);
    until(&fixture, &counter("update_success"), successes + 1).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while status(&fixture, "/two", "key-two").await != 200 {
        assert!(Instant::now() < deadline, "the right update has no effect");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..4 {
        assert_eq!(status(&fixture, "/two", "key-two").await, 200);
        assert_eq!(
            status(&fixture, "/two", "key-one").await,
            401,
            "a key that was taken out"
        );
        assert_eq!(
            status(&fixture, "/one", "key-two").await,
            403,
            "a rule that was taken out"
        );
    }
    assert_eq!(status(&fixture, "/limited", "key-two").await, 200);
    assert_eq!(
        status(&fixture, "/limited", "key-two").await,
        429,
        "counts survive an update"
    );
    fixture.assert_no_panic("updates");
}

#[tokio::test]
async fn secrets_are_written_nowhere() {
    let shared = "the-shared-secret-of-hs256-0123456789";
    let hook = "the-secret-of-the-webhook";
    let keyed = "the-secret-of-a-signing-caller";
    let key = "the-api-key-itself";
    let gate = json!({
        "issuers": {
            "shared": {"issuer": "shared", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "SHARED"}},
            "main": {
                "issuer": "main", "audiences": ["a"], "algorithms": ["ES256"],
                "jwks": {"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp"},
            },
        },
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest(key)}]}},
        "signatures": {
            "hook": {"scheme": "github", "secrets": [{"env": "HOOK"}]},
            "callers": {"scheme": "keyed", "header_prefix": "x-sig-", "keys": [{"id": "k", "secrets": [{"env": "KEYED"}]}]},
        },
        "rules": [{"name": "all", "authenticate": {"any": [
            "issuers/main", "issuers/shared", "api_keys/agents", "signatures/hook", "signatures/callers",
        ]}}],
    });
    let fixture = Setup::new(gate)
        .workers(2)
        .env("SHARED", shared)
        .env("HOOK", hook)
        .env("KEYED", keyed)
        .start();
    let client = client(Version::Http1);
    let header = json!({"alg": "HS256"});
    let claims = tokens::claims("shared", "a", "alice", 3600);
    let mac = sign::hmac_sha256(
        shared.as_bytes(),
        tokens::signing_input(&header, &claims).as_bytes(),
    );
    let by_secret = tokens::assemble(&header, &claims, &mac);
    let by_key = fixture
        .idp
        .mint(Alg::Es256, &tokens::claims("main", "a", "bob", 3600));
    let tampered = tokens::tamper(&by_key);
    let signature = sign::github(hook, "body");
    for (call, status) in [
        (Call::get("/x").bearer(&by_secret), 200),
        (Call::get("/x").bearer(&by_key), 200),
        (Call::get("/x").bearer(&tampered), 401),
        (Call::get("/x").api_key(key), 200),
        (Call::get("/x").api_key("an-api-key-that-nobody-knows"), 401),
        (
            Call::post("/x", "body").header("x-hub-signature-256", &signature),
            200,
        ),
        (
            Call::post("/x", "other").header("x-hub-signature-256", &signature),
            401,
        ),
        (Call::get("/x").header("x-sig-signature", "00"), 401),
    ] {
        assert_eq!(call.send(&client, &fixture).await.status, status);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let dump = fixture.envoy.admin_get("/config_dump?include_eds").unwrap();
    assert!(dump.contains("FAIL_RELOAD"), "a VM that failed is replaced");
    assert!(dump.contains("HOOK"), "the dump holds the plugin's configuration");
    let stats = fixture.envoy.admin_get("/stats").unwrap();
    let signature = signature.trim_start_matches("sha256=");
    for (place, text) in [
        ("log", fixture.envoy.log()),
        ("config_dump", dump),
        ("stats", stats),
    ] {
        for secret in [
            shared,
            hook,
            keyed,
            key,
            &by_secret,
            &by_key,
            &tampered,
            signature,
            "an-api-key-that-nobody-knows",
        ] {
            assert!(!text.contains(secret), "{secret} in the {place}");
        }
    }
    fixture.assert_sound("secrets");
}
