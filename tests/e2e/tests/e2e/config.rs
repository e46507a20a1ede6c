//! Configurations: an invalid one is rejected with all its errors, the previous one stays in force, and secrets are
//! written nowhere.

use std::path::Path;
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::sample_api::SampleApi;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

/// A secret where the configuration expects its digest or the name of its variable.
const PASTED: &str = "a-secret-pasted-into-the-configuration";

/// Configurations that Envoy must not start with, and the errors that its log must contain.
#[test]
fn an_invalid_configuration_is_rejected_with_all_its_errors() {
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
        expect_rejection(name, &setup, &expected);
    }
}

fn expect_rejection(case: &str, setup: &Setup, messages: &[&str]) {
    let log = setup.rejection_log(case);
    for message in messages {
        assert!(log.contains(message), "{case}: no {message:?} in\n{log}");
    }
    for secret in [PASTED, "31-bytes", "ssssssss"] {
        assert!(!log.contains(secret), "{case}: {secret:?} in\n{log}");
    }
}

/// A rule requires a claim to be `true`, but claim values must be strings. If the requirement were ignored instead of
/// rejected, the rule would admit every token.
#[test]
fn a_required_claim_value_that_is_no_string_is_rejected() {
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
    expect_rejection("a claim that is no string", &Setup::new(gate), &[message]);
}

/// Type errors inside named entries are reported with their paths, and without values that may be secrets.
#[test]
fn errors_inside_named_entries_are_reported() {
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
    expect_rejection("named entries", &Setup::new(gate), &messages);
}

/// A gate with a rate-limited rule, and a rule for `path`, that admit this API key.
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

/// Replaces the watched file of listeners by an atomic rename.
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
        assert!(Instant::now() < deadline, "{name} stays below {at_least}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The status of a request on a new connection; an update closes the old ones.
async fn status(fixture: &Fixture, path: &str, key: &str) -> u16 {
    let request = Request::get(path).api_key(key);
    request.send(&client(Version::Http1), fixture).await.status
}

#[tokio::test]
async fn an_invalid_update_leaves_the_old_configuration_in_force() {
    let idp = IdentityProvider::start().unwrap();
    let api = SampleApi::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(gate("/one", "key-one")).workers(2);
    let parse =
        |setup: &Setup| -> Value { serde_saphyr::from_str(&setup.inline_bootstrap(&idp, &api)).unwrap() };
    let listeners = |gate: Value| parse(&setup.clone().gate(gate))["static_resources"]["listeners"].clone();
    // An unknown reference, an unknown field, not an object, an empty object.
    let mut unknown_key_set = gate("/two", "key-two");
    unknown_key_set["rules"][1]["authenticate"] = json!({"any": ["api_keys/nobody"]});
    let mut misspelt = gate("/two", "key-two");
    misspelt["rulez"] = json!([]);
    let invalid = [unknown_key_set, misspelt, json!("open: true"), json!({})].map(listeners);
    let valid = listeners(gate("/two", "key-two"));

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

    let assert_first_in_force = async |case: &str| {
        for _ in 0..4 {
            assert_eq!(status(&fixture, "/one", "key-one").await, 200, "{case}");
            assert_eq!(status(&fixture, "/one", "key-two").await, 401, "{case}");
            assert_eq!(status(&fixture, "/two", "key-one").await, 403, "{case}");
        }
    };
    assert_first_in_force("the first configuration").await;
    assert_eq!(status(&fixture, "/limited", "key-one").await, 200);

    // Each is rejected and changes nothing.
    for (count, invalid) in (1..).zip(invalid) {
        publish(folder.path(), &invalid);
        until(&fixture, &counter("update_rejected"), count).await;
        assert_first_in_force(&format!("invalid update {count}")).await;
    }
    let log = fixture.envoy.log();
    assert!(log.contains("rules[1].authenticate.any[0]: no set of API keys \"nobody\""));
    assert!(log.contains("unknown field \"rulez\""));

    // The count of the limit survives the valid update.
    assert_eq!(status(&fixture, "/limited", "key-one").await, 200);
    let successes = fixture.envoy.stat(&counter("update_success")).unwrap();
    publish(folder.path(), &valid);
    until(&fixture, &counter("update_success"), successes + 1).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while status(&fixture, "/two", "key-two").await != 200 {
        assert!(Instant::now() < deadline, "the valid update has no effect");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..4 {
        assert_eq!(status(&fixture, "/two", "key-two").await, 200);
        assert_eq!(status(&fixture, "/two", "key-one").await, 401, "a removed key");
        assert_eq!(status(&fixture, "/one", "key-two").await, 403, "a removed rule");
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
    for (request, status) in [
        (Request::get("/x").bearer(&by_secret), 200),
        (Request::get("/x").bearer(&by_key), 200),
        (Request::get("/x").bearer(&tampered), 401),
        (Request::get("/x").api_key(key), 200),
        (Request::get("/x").api_key("an-api-key-that-nobody-knows"), 401),
        (
            Request::post("/x", "body").header("x-hub-signature-256", &signature),
            200,
        ),
        (
            Request::post("/x", "other").header("x-hub-signature-256", &signature),
            401,
        ),
        (Request::get("/x").header("x-sig-signature", "00"), 401),
    ] {
        assert_eq!(request.send(&client, &fixture).await.status, status);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let dump = fixture.envoy.admin_get("/config_dump?include_eds").unwrap();
    assert!(dump.contains("FAIL_RELOAD"), "a failed VM is replaced");
    assert!(
        dump.contains("HOOK"),
        "the dump contains the configuration of the plugin"
    );
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
    fixture.assert_healthy("secrets");
}
