use serde_json::{Value, json};

use super::*;
use crate::{Gate, Secret};

/// Every error of a document, as operators see them.
fn errors(document: Value) -> Vec<String> {
    let secret = |name: &str| match name {
        "LONG" => Some(Secret::new([b'x'; 32])),
        "SAME" => Some(Secret::new([b'x'; 32])),
        "OTHER" => Some(Secret::new([b'y'; 32])),
        "SHORT" => Some(Secret::new("short")),
        "EMPTY" => Some(Secret::new("")),
        _ => None,
    };
    let errors = match from_value(document) {
        Err(errors) => errors,
        Ok(config) => match Gate::compile(&config, &secret) {
            Err(errors) => errors,
            Ok(_) => return Vec::new(),
        },
    };
    errors.issues().iter().map(ToString::to_string).collect()
}

/// A valid document, of which tests change one value.
fn valid() -> Value {
    json!({
        "issuers": {"sigil": {
            "issuer": "https://idp.example", "audiences": ["api"], "algorithms": ["RS256"],
            "jwks": {"uri": "https://idp.example/jwks", "cluster": "idp"},
        }},
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": format!("sha256:{}", "0".repeat(64))}]}},
        "signatures": {"hooks": {"scheme": "github", "secrets": [{"env": "LONG"}]}},
        "limits": {"per-user": {"quota": 5, "window": "10s", "key": ["subject"]}},
        "rules": [
            {"name": "one", "match": {"path": {"exact": "/a"}}, "authenticate": {"any": ["issuers/sigil"]},
             "limits": ["per-user"]},
            {"name": "two", "open": true},
        ],
    })
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut document = valid();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(members) => {
            members.insert(name.to_owned(), value);
        }
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    document
}

#[test]
fn a_valid_document_has_no_errors() {
    assert_eq!(errors(valid()), Vec::<String>::new());
    assert_eq!(errors(json!({"rules": []})), Vec::<String>::new());
}

#[test]
fn each_error_has_its_path_and_the_fix() {
    for (pointer, value, error) in [
        (
            "/rule",
            json!([]),
            ": unknown field \"rule\": did you mean `rules`?",
        ),
        (
            "/issuers/sigil/audience",
            json!("x"),
            "issuers.sigil: unknown field \"audience\": did you mean `audiences`?",
        ),
        (
            "/issuers/sigil/algorithms",
            json!(["RS265"]),
            "issuers.sigil.algorithms[0]: unknown value \"RS265\": did you mean `RS256`?",
        ),
        (
            "/issuers/sigil/algorithms",
            json!(["none"]),
            "issuers.sigil.algorithms[0]: unknown value \"none\"",
        ),
        (
            "/issuers/sigil/algorithms",
            json!([]),
            "issuers.sigil.algorithms: must name at least one",
        ),
        (
            "/issuers/sigil/audiences",
            json!([]),
            "issuers.sigil.audiences: must name at least one",
        ),
        (
            "/issuers/sigil/audiences",
            json!(["api", " "]),
            "issuers.sigil.audiences[1]: must not be empty",
        ),
        (
            "/rules/0/authorize",
            json!({"roles": [""]}),
            "rules[0].authorize.roles[0]: must not be empty",
        ),
        (
            "/signatures/hooks/roles",
            json!([""]),
            "signatures.hooks.roles[0]: must not be empty",
        ),
        (
            "/api_keys/agents/header",
            json!("Host"),
            "api_keys.agents.header: \"host\" frames the message",
        ),
        (
            "/issuers/sigil/issuer",
            json!(""),
            "issuers.sigil.issuer: must not be empty",
        ),
        (
            "/issuers/sigil/issuer",
            json!(7),
            "issuers.sigil.issuer: expected a string, found a positive integer",
        ),
        (
            "/issuers/sigil/leeway",
            json!("5 parsecs"),
            "issuers.sigil.leeway: \"5 parsecs\" is not a duration",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"uri": "https://x/y"}),
            "issuers.sigil.jwks: takes either",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"uri": "x", "cluster": "c"}),
            "issuers.sigil.jwks.uri: must be http",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"inline": {"keys": []}}),
            "issuers.sigil.jwks.inline: no key in the set",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"inline": "{"}),
            "issuers.sigil.jwks.inline: not a JSON Web Key Set",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"uri": "http://x/y", "cluster": "c", "refresh": "1ms"}),
            "issuers.sigil.jwks.refresh: must be at least 1s",
        ),
        (
            "/issuers/sigil/secret",
            json!({"env": "LONG"}),
            "issuers.sigil.secret: only HS256",
        ),
        (
            "/issuers/sigil/headers",
            json!({"host": "x"}),
            "issuers.sigil.headers: \"host\" cannot carry",
        ),
        (
            "/issuers/a b",
            json!(valid()["issuers"]["sigil"]),
            "issuers: the name \"a b\"",
        ),
        (
            "/issuers/hs",
            json!({"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "SHORT"}}),
            "issuers.hs.secret: is shorter than the 32 bytes",
        ),
        (
            "/issuers/hs",
            json!({"issuer": "i", "audiences": ["a"], "algorithms": ["HS256", "RS256"], "secret": {"env": "LONG"}}),
            "issuers.hs.algorithms: HS256 cannot be combined",
        ),
        (
            "/issuers/hs",
            json!({"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"]}),
            "issuers.hs: HS256 needs",
        ),
        (
            "/api_keys/agents/keys",
            json!([{"id": "ci", "digest": "s3cret-key"}]),
            "api_keys.agents.keys[0].digest: not a digest",
        ),
        (
            "/api_keys/agents/keys",
            json!([{"id": "ci", "digest": "sha256:00"}]),
            "api_keys.agents.keys[0].digest: not a digest",
        ),
        (
            "/api_keys/agents/keys/0/not_after",
            json!("tomorrow"),
            "api_keys.agents.keys[0].not_after: \"tomorrow\" is not a time",
        ),
        (
            "/api_keys/agents/header",
            json!("x api key"),
            "api_keys.agents.header: \"x api key\" is not a header name",
        ),
        (
            "/signatures/hooks/secrets",
            json!([]),
            "signatures.hooks.secrets: must name at least one",
        ),
        (
            "/signatures/hooks/secrets",
            json!([{"env": "ABSENT"}]),
            "signatures.hooks.secrets[0].env: ABSENT is not set",
        ),
        (
            "/signatures/hooks/secrets",
            json!([{"env": "EMPTY"}]),
            "signatures.hooks.secrets[0].env: EMPTY is not set",
        ),
        (
            "/signatures/hooks/max_bodi",
            json!("1MiB"),
            "signatures.hooks: unknown field \"max_bodi\"",
        ),
        (
            "/signatures/hooks/max_body",
            json!("many"),
            "signatures.hooks.max_body: \"many\" is not a size",
        ),
        (
            "/signatures/hooks/max_body",
            json!("4GiB"),
            "signatures.hooks.max_body: \"4GiB\" is too large: it must be under 4GiB",
        ),
        (
            "/signatures/hooks/scheme",
            json!("githob"),
            "signatures.hooks: unknown \"scheme\": the values are github, keyed",
        ),
        (
            "/limits/per-user/quota",
            json!(0),
            "limits.per-user.quota: must be at least 1",
        ),
        (
            "/limits/per-user/key",
            json!([]),
            "limits.per-user.key: must have at least one part",
        ),
        (
            "/limits/per-user/key",
            json!(["subjekt"]),
            "limits.per-user.key[0]: unknown part \"subjekt\"; did you mean \"subject\"?",
        ),
        (
            "/rules/0/authenticate/any",
            json!(["issuers/sigl"]),
            "rules[0].authenticate.any[0]: no issuer \"sigl\"; did you mean \"sigil\"?",
        ),
        (
            "/rules/0/authenticate/any",
            json!(["issuer/sigil"]),
            "rules[0].authenticate.any[0]: \"issuer/sigil\" must be issuers/<name>",
        ),
        (
            "/rules/0/authenticate/any",
            json!([]),
            "rules[0]: needs \"authenticate",
        ),
        (
            "/rules/0/open",
            json!(true),
            "rules[0]: has both \"open\" and \"authenticate\"",
        ),
        ("/rules/1/open", json!(false), "rules[1]: needs \"authenticate"),
        (
            "/rules/1/limits",
            json!(["per-user"]),
            "rules[1].limits[0]: \"per-user\" counts by caller",
        ),
        (
            "/rules/1/authorize",
            json!({"roles": ["a"]}),
            "rules[1].authorize: is not allowed in an open rule",
        ),
        (
            "/rules/0/limits",
            json!(["per-uzer"]),
            "rules[0].limits[0]: no limit \"per-uzer\"; did you mean \"per-user\"?",
        ),
        (
            "/rules/0/match/path",
            json!({"exact": "/a", "prefix": "/b"}),
            "rules[0].match.path: takes exactly one",
        ),
        (
            "/rules/0/match/path",
            json!({"prefix": "a"}),
            "rules[0].match.path: \"a\" would never match",
        ),
        (
            "/rules/0/match/path",
            json!({"exact": "/a/../b"}),
            "rules[0].match.path: \"/a/../b\" would never match",
        ),
        (
            "/rules/0/match/path",
            json!({"exact": "/%61"}),
            "rules[0].match.path: \"/%61\" would never match: requests are compared as \"/a\"",
        ),
        (
            "/rules/0/match/methods",
            json!(["get"]),
            "rules[0].match.methods[0]: \"get\" is not a method",
        ),
        (
            "/rules/1/name",
            json!("one"),
            "rules[1].name: \"one\" is the name of rules[0] too",
        ),
        (
            "/rules/1/name",
            json!("a.b"),
            "rules[1].name: the name \"a.b\" must be",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"uri": "http://x/y", "cluster": "c", "cooldown": "0s"}),
            "issuers.sigil.jwks.cooldown: must be at least 1s",
        ),
        (
            "/issuers/sigil/jwks",
            json!({"uri": "http://x/y", "cluster": "c", "max_stale": "1m"}),
            "issuers.sigil.jwks.max_stale: must be at least",
        ),
        (
            "/signatures/bots",
            json!({"scheme": "keyed", "header_prefix": "x-", "max_skew": "0s", "keys": [{"id": "b", "secrets": [{"env": "LONG"}]}]}),
            "signatures.bots.max_skew: must be from 1s to 24h",
        ),
        (
            "/limits/per-user",
            json!({"quota": 1, "window": "31d", "burst": 10000, "key": ["subject"]}),
            "limits.per-user.burst: takes over ten years",
        ),
        (
            "/rules/0/match/path",
            json!({"template": "/f/{id}.json"}),
            "rules[0].match.path: \"/f/{id}.json\" would never match",
        ),
        (
            "/rules/0/match/path",
            json!({"exact": "/f/{id}"}),
            "rules[0].match.path: \"/f/{id}\" would never match",
        ),
        ("/default", json!("maybe"), "default: unknown value \"maybe\""),
    ] {
        let found = errors(changed(pointer, value));
        assert!(
            found
                .iter()
                .any(|found| format!(": {found}").contains(error) || found.starts_with(error)),
            "{pointer}: wanted {error:?}, got {found:#?}"
        );
    }
}

#[test]
fn patterns_of_other_routers_are_rejected_with_the_intended_spelling() {
    for (pointer, value, hint) in [
        ("path", json!({"prefix": "/admin/*"}), "write prefix: /admin,"),
        ("path", json!({"prefix": "/admin*"}), "write prefix: /admin,"),
        ("path", json!({"exact": "/admin/*"}), "write prefix: /admin,"),
        ("path", json!({"exact": "/admin/**"}), "write prefix: /admin,"),
        ("path", json!({"template": "/admin/*"}), "write prefix: /admin,"),
        ("path", json!({"prefix": "*"}), "leave \"path\" out"),
        ("path", json!({"template": "*"}), "leave \"path\" out"),
        (
            "path",
            json!({"exact": "/admin/:id"}),
            "write template: /admin/{id},",
        ),
        (
            "path",
            json!({"template": "/admin/:id"}),
            "write template: /admin/{id},",
        ),
        (
            "path",
            json!({"exact": "/admin/<id>"}),
            "write template: /admin/{id},",
        ),
        (
            "path",
            json!({"exact": "/admin/{id}"}),
            "write template: /admin/{id};",
        ),
        (
            "path",
            json!({"prefix": "/admin/{id}"}),
            "write template: /admin/{id};",
        ),
        ("path", json!({"template": "/{path=**}"}), "one whole segment"),
        ("path", json!({"template": "/{*path}"}), "one whole segment"),
        ("path", json!({"template": "/{rest...}"}), "one whole segment"),
        ("path", json!({"prefix": "/v[12]"}), "regular expressions"),
        ("path", json!({"exact": "/admin/.*"}), "regular expressions"),
        ("path", json!({"prefix": "^/admin"}), "regular expressions"),
        ("hosts", json!(["foo.*"]), "\"*.example.com\""),
        ("hosts", json!(["*"]), "leave \"hosts\" out"),
        ("hosts", json!(["*.*.example.com"]), "\"*.example.com\""),
        ("hosts", json!(["*example.com"]), "\"*.example.com\""),
        (
            "hosts",
            json!([".example.com"]),
            "write \"*.example.com\" for everything below a domain",
        ),
        ("hosts", json!(["a..b"]), "write a host name"),
        ("hosts", json!(["example.com:443"]), "without port"),
        ("hosts", json!(["[::1"]), "write a host name"),
        ("hosts", json!(["[not:hex]"]), "write a host name"),
        ("hosts", json!(["bücher.example"]), "punycode"),
        ("methods", json!(["*"]), "leave \"methods\" out"),
        ("methods", json!(["ANY"]), "leave \"methods\" out"),
        ("methods", json!(["all"]), "leave \"methods\" out"),
    ] {
        let found = errors(changed(&format!("/rules/0/match/{pointer}"), value.clone()));
        assert_eq!(found.len(), 1, "{value}: {found:?}");
        assert!(
            found[0].starts_with(&format!("rules[0].match.{pointer}"))
                && found[0].contains(" would never match: ")
                && found[0].contains(hint),
            "{value}: {found:?}"
        );
    }
}

#[test]
fn special_characters_can_be_escaped() {
    for path in [
        json!({"exact": "/a/%2A"}),
        json!({"prefix": "/a%2a"}),
        json!({"template": "/a/%7Bid%7D/{id}"}),
        json!({"exact": "/%3Aid"}),
        json!({"exact": "*"}),
        json!({"prefix": "/v1/models:predict"}),
    ] {
        assert_eq!(
            errors(changed("/rules/0/match/path", path.clone())),
            Vec::<String>::new(),
            "{path}"
        );
    }
    for host in [
        "example.com.",
        "*.example.com",
        "[::1]",
        "10.0.0.1",
        "a_b.example",
    ] {
        assert_eq!(
            errors(changed("/rules/0/match/hosts", json!([host]))),
            Vec::<String>::new(),
            "{host}"
        );
    }
}

#[test]
fn guessable_credentials_are_rejected() {
    use ct_codecs::{Encoder, Hex};
    use sha2::Digest as _;
    let digest = |text: &str| {
        format!(
            "sha256:{}",
            Hex::encode_to_string(sha2::Sha256::digest(text)).unwrap()
        )
    };
    for placeholder in ["", "\n", " ", "\r\n", "null", "null\n", "undefined", "None"] {
        let found = errors(changed(
            "/api_keys/agents/keys/0/digest",
            json!(digest(placeholder)),
        ));
        assert_eq!(found.len(), 1, "{placeholder:?}: {found:?}");
        assert!(
            found[0].starts_with("api_keys.agents.keys[0].digest: is the digest of an empty value"),
            "{placeholder:?}: {found:?}"
        );
    }
    assert_eq!(
        errors(changed("/api_keys/agents/keys/0/digest", json!(digest("0f9a64")))),
        Vec::<String>::new()
    );
    for (path, document) in [
        (
            "signatures.hooks.secrets[0]",
            changed("/signatures/hooks/secrets", json!([{"env": "SHORT"}])),
        ),
        (
            "host.token",
            changed("/host", json!({"cluster": "c", "token": {"env": "SHORT"}})),
        ),
    ] {
        let found = errors(document);
        assert!(
            found[0].starts_with(&format!("{path}: is shorter than 8 bytes")),
            "{found:?}"
        );
        assert!(!found[0].contains("short:"), "{found:?}");
    }
}

fn keyed(keys: Value) -> Vec<String> {
    errors(changed(
        "/signatures/bots",
        json!({"scheme": "keyed", "header_prefix": "x-bot-", "keys": keys}),
    ))
}

#[test]
fn a_key_id_that_no_request_could_carry_is_rejected() {
    let key = |id: &str| json!([{"id": id, "secrets": [{"env": "LONG"}]}]);
    for id in [
        "x".repeat(129),
        " a".into(),
        "a ".into(),
        "a\nb".into(),
        "a\u{7f}".into(),
    ] {
        let found = keyed(key(&id));
        assert!(
            found.len() == 1 && found[0].starts_with("signatures.bots.keys[0].id: "),
            "{id:?}: {found:?}"
        );
    }
    for id in ["x".repeat(128), "a b".into(), "é".into()] {
        assert_eq!(keyed(key(&id)), Vec::<String>::new(), "{id:?}");
    }
    for (length, accepted) in [(1024, true), (1025, false), (0, false)] {
        let found = errors(changed("/api_keys/agents/keys/0/id", json!("x".repeat(length))));
        assert_eq!(found.is_empty(), accepted, "{length}: {found:?}");
    }
}

#[test]
fn a_secret_has_one_holder() {
    let key = |id: &str, secrets: &[&str]| {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"env": name})).collect();
        json!({"id": id, "secrets": secrets})
    };
    for (keys, path) in [
        (
            vec![key("a", &["LONG"]), key("b", &["LONG"])],
            Some("signatures.bots.keys[1].secrets[0]: "),
        ),
        // The same bytes under another name.
        (
            vec![key("a", &["LONG"]), key("b", &["OTHER", "SAME"])],
            Some("signatures.bots.keys[1].secrets[1]: "),
        ),
        (vec![key("a", &["LONG", "SAME"]), key("b", &["OTHER"])], None),
    ] {
        let found = keyed(json!(keys));
        match path {
            Some(path) => assert!(found.len() == 1 && found[0].starts_with(path), "{found:?}"),
            None => assert_eq!(found, Vec::<String>::new()),
        }
    }
}

#[test]
fn a_limit_is_listed_once_in_a_rule() {
    let found = errors(changed("/rules/0/limits", json!(["per-user", "per-user"])));
    assert!(
        found.len() == 1
            && found[0].starts_with("rules[0].limits[1]: \"per-user\" is a duplicate of limits[0]"),
        "{found:?}"
    );
}

#[test]
fn a_claim_cannot_be_sent_in_a_header_with_another_meaning() {
    for header in [
        "x-postern-subject",
        "X-Postern-Roles",
        "x_postern_tenant",
        "te",
        "TE",
        "upgrade",
        "trailer",
        "keep-alive",
        "proxy-connection",
        "transfer_encoding",
        ":path",
        "content-length",
        "cookie",
        "x-forwarded-for",
        "x-envoy-retry-on",
    ] {
        let found = errors(changed("/issuers/sigil/headers", json!({header: "sub"})));
        assert!(
            found.len() == 1
                && found[0].starts_with("issuers.sigil.headers: ")
                && found[0].contains("cannot carry a claim"),
            "{header}: {found:?}"
        );
    }
    for (one, other) in [("X-User", "x-user"), ("x_user", "x-user")] {
        let found = errors(changed(
            "/issuers/sigil/headers",
            json!({one: "sub", other: "email"}),
        ));
        assert!(
            found.len() == 1 && found[0].contains("are the same header to the upstream"),
            "{found:?}"
        );
    }
}

#[test]
fn all_errors_are_reported_not_only_the_first() {
    let form = json!({"isuers": {}, "rules": [{"name": "a", "open": "yes"}, {"nam": "b"}], "default": 3});
    assert_eq!(
        errors(form).len(),
        5,
        "unknown, wrong type, unknown, missing, wrong type"
    );
    let meaning = json!({
        "issuers": {"i": {"issuer": "", "audiences": [], "algorithms": []}},
        "rules": [{"name": "a"}, {"name": "a", "open": true, "limits": ["x"]}],
    });
    let found = errors(meaning);
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn a_misplaced_value_is_not_shown() {
    for document in [
        changed("/signatures/hooks/secrets", json!("hunter2-hunter2")),
        changed("/issuers/sigil/secret", json!("hunter2-hunter2")),
        changed("/signatures/hooks/secrets", json!([{"env": "hunter2-hunter2"}])),
        changed("/api_keys/agents/keys/0/digest", json!("hunter2-hunter2")),
    ] {
        let found = errors(document);
        assert!(!found.is_empty());
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }
}

#[test]
fn invalid_json_is_rejected() {
    let error = from_json(b"rules: []").unwrap_err().to_string();
    assert!(
        error.starts_with("the plugin's configuration is not JSON"),
        "{error}"
    );
}

#[test]
fn two_issuers_of_a_rule_must_differ_in_iss() {
    let mut document = changed("/issuers/twin", valid()["issuers"]["sigil"].clone());
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    document["rules"][0]["authenticate"]["any"] = json!(["issuers/sigil", "issuers/twin"]);
    let found = errors(document);
    assert!(
        found[0].starts_with("rules[0].authenticate: two of these issuers"),
        "{found:?}"
    );
}

#[test]
fn an_empty_value_does_not_mean_any() {
    for (rule, at) in [
        (
            json!({"match": {"methods": []}, "open": true}),
            "rules[0].match.methods",
        ),
        (
            json!({"match": {"hosts": []}, "open": true}),
            "rules[0].match.hosts",
        ),
        (json!({"match": null, "open": true}), "rules[0].match"),
        (
            json!({"match": {"path": null}, "open": true}),
            "rules[0].match.path",
        ),
        (
            json!({"match": {"methods": [null]}, "open": true}),
            "rules[0].match.methods[0]",
        ),
        (
            json!({"authenticate": {"any": ["api_keys/a"]}, "authorize": null}),
            "rules[0].authorize",
        ),
        (
            json!({"authenticate": {"any": ["api_keys/a"]}, "authorize": {}}),
            "rules[0].authorize",
        ),
        (
            json!({"authenticate": {"any": ["api_keys/a"]}, "authorize": {"claims": {}}}),
            "rules[0].authorize",
        ),
        (
            json!({"authenticate": {"any": ["api_keys/a"]}, "authorize": {"roles": []}}),
            "rules[0].authorize.roles",
        ),
    ] {
        let mut rule = rule;
        rule["name"] = json!("r");
        let digest = format!("sha256:{}", "a".repeat(64));
        let config = json!({
            "api_keys": {"a": {"keys": [{"id": "k", "digest": digest}]}},
            "rules": [rule],
        });
        let errors = from_value(config)
            .and_then(|config| crate::Gate::compile(&config, &|_: &str| None))
            .expect_err(at)
            .to_string();
        assert!(errors.contains(&format!("{at}: ")), "{at}: {errors}");
    }
}
