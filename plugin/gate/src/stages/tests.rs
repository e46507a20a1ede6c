use std::time::Duration;

use serde_json::json;

use crate::ports::SharedState as _;
use crate::testing::{Fixture, admitted, refused};
use crate::{Reason, Step};

/// The digest of an API key, as in a configuration.
fn digest(key: &str) -> String {
    use ct_codecs::{Encoder, Hex};
    use sha2::{Digest, Sha256};
    format!("sha256:{}", Hex::encode_to_string(Sha256::digest(key)).unwrap())
}

fn fixture() -> Fixture {
    Fixture::new(&json!({
        "api_keys": {
            "agents": {"keys": [
                {"id": "alpha", "digest": digest("alpha"), "roles": ["Operator"], "tenant": "t1"},
                {"id": "gone", "digest": digest("gone"), "not_after": "2026-01-01T00:00:00Z"},
                {"id": "going", "digest": digest("going"), "not_after": "2026-01-01T00:00:01Z"},
            ]},
            "partners": {"header": "X-Partner-Key", "keys": [{"id": "beta", "digest": digest("beta")}]},
        },
        "limits": {
            "flood": {"quota": 3, "window": "60s", "key": ["address"]},
            "per-key": {"quota": 2, "window": "10s", "key": ["api_key", "header:x-region"]},
        },
        "rules": [
            {"name": "health", "match": {"methods": ["GET"], "path": {"exact": "/healthz"}}, "open": true},
            {"name": "flooded", "match": {"path": {"exact": "/login"}},
             "authenticate": {"any": ["api_keys/agents"]}, "limits": ["flood"]},
            {"name": "both", "match": {"path": {"prefix": "/both"}},
             "authenticate": {"any": ["api_keys/partners", "api_keys/agents"]}},
            {"name": "limited", "match": {"path": {"exact": "/limited"}},
             "authenticate": {"any": ["api_keys/agents"]}, "limits": ["per-key"]},
            {"name": "host", "match": {"hosts": ["*.internal.example"], "path": {"prefix": "/host"}}, "open": true},
            {"name": "ops", "match": {"path": {"prefix": "/ops"}}, "authenticate": {"any": ["api_keys/agents"]},
             "authorize": {"roles": ["Operator"]}},
        ],
    }))
}

#[test]
fn api_keys() {
    let fixture = fixture();
    for (headers, reason) in [
        (&[("x-api-key", "alpha")][..], None),
        (&[("x-api-key", "alpha ")], Some(Reason::ApiKeyUnknown)),
        (&[("x-api-key", "")], Some(Reason::CredentialsMissing)),
        (&[("x-api-key", "gone")], Some(Reason::ApiKeyExpired)),
        (
            &[("x-api-key", "alpha"), ("x-api-key", "alpha")],
            Some(Reason::CredentialsAmbiguous),
        ),
        (&[("x-partner-key", "beta")], Some(Reason::CredentialsMissing)),
        (&[], Some(Reason::CredentialsMissing)),
    ] {
        let step = fixture.get("/ops", headers);
        match reason {
            None => assert_eq!(admitted(&step).tenant.as_deref(), Some("t1")),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{headers:?}"),
        }
    }
    admitted(&fixture.get("/both", &[("x-api-key", "going")]));
    fixture.advance(Duration::from_secs(1));
    assert_eq!(
        refused(&fixture.get("/both", &[("x-api-key", "going")])).reason,
        Reason::ApiKeyExpired
    );
}

/// An empty header authenticates no one, and does not keep another credential from being used.
#[test]
fn an_empty_credential_counts_as_absent() {
    let fixture = Fixture::with_secrets(
        &json!({
            "issuers": {"idp": {
                "issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "SECRET"},
            }},
            "api_keys": {"agents": {"keys": [{"id": "alpha", "digest": digest("alpha")}]}},
            "signatures": {
                "hook": {"scheme": "github", "secrets": [{"env": "SECRET"}]},
                "bots": {"scheme": "keyed", "header_prefix": "x-bot-", "keys": [{"id": "b", "secrets": [{"env": "SECRET"}]}]},
            },
            "rules": [{"name": "any", "authenticate": {"any": [
                "issuers/idp", "signatures/hook", "signatures/bots", "api_keys/agents",
            ]}}],
        }),
        &[("SECRET", "0123456789abcdef0123456789abcdef")],
    );
    for empty in ["", " ", "\t"] {
        for header in [
            "x-api-key",
            "x-hub-signature-256",
            "x-bot-signature",
            "authorization",
        ] {
            let step = fixture.get("/", &[(header, empty)]);
            assert_eq!(
                refused(&step).reason,
                Reason::CredentialsMissing,
                "{header}: {empty:?}"
            );
        }
        let bearer = format!("Bearer {empty}");
        let step = fixture.get("/", &[("authorization", &bearer)]);
        assert_eq!(refused(&step).reason, Reason::CredentialsMissing, "{bearer:?}");
        let all = [
            ("authorization", bearer.as_str()),
            ("x-hub-signature-256", empty),
            ("x-bot-signature", empty),
            ("x-api-key", "alpha"),
        ];
        assert_eq!(admitted(&fixture.get("/", &all)).subject, "alpha");
    }
}

#[test]
fn the_first_credential_in_the_list_decides() {
    let fixture = fixture();
    let alpha = ("x-api-key", "alpha");
    assert_eq!(admitted(&fixture.get("/both", &[alpha])).subject, "alpha");
    assert_eq!(
        admitted(&fixture.get("/both", &[alpha, ("x-partner-key", "beta")])).subject,
        "beta"
    );
    let step = fixture.get("/both", &[alpha, ("x-partner-key", "wrong")]);
    assert_eq!(
        refused(&step).reason,
        Reason::ApiKeyUnknown,
        "a valid key does not make up for an invalid one"
    );
}

#[test]
fn identity_headers_of_the_client_are_stripped_everywhere() {
    let fixture = fixture();
    let injected = [
        ("x-postern-subject", "root"),
        ("x_postern_roles", "Admin"),
        ("x-postern_tenant", "t2"),
        ("x.postern!subject", "root"),
        ("x-other", "kept"),
    ];
    let with_key: Vec<_> = injected.into_iter().chain([("x-api-key", "alpha")]).collect();
    for (path, headers) in [("/healthz", &injected[..]), ("/ops", &with_key)] {
        let Step::Continue(effects) = fixture.get(path, headers) else {
            panic!("{path}")
        };
        assert_eq!(
            effects.strip,
            [
                "x-postern-subject",
                "x_postern_roles",
                "x-postern_tenant",
                "x.postern!subject"
            ],
            "{path}"
        );
    }
}

#[test]
fn ambiguous_requests_are_refused_on_every_route() {
    let fixture = fixture();
    for path in [
        "/healthz/../ops",
        "//healthz",
        "/healthz%2f",
        "/nowhere/./",
        "/healthz#x",
    ] {
        assert_eq!(
            refused(&fixture.get(path, &[])).reason,
            Reason::PathAmbiguous,
            "{path}"
        );
    }
    for headers in [&[("host", "other.example")], &[(":authority", "other.example")]] {
        // In addition to the one that the fixture sends.
        assert_eq!(
            refused(&fixture.get("/healthz", headers)).reason,
            Reason::HostAmbiguous
        );
    }
    for (value, valid) in [
        ("Upgrade", true),
        ("keep-alive, Upgrade", true),
        ("Upgrade, HTTP2-Settings", true),
        ("", true),
        ("upgrade, x-postern-subject", false),
        ("x-postern-roles", false),
        ("upgrade;x-postern-roles", false),
    ] {
        let step = fixture.get("/healthz", &[("connection", value), ("upgrade", "websocket")]);
        match step {
            Step::Continue(_) => assert!(valid, "{value}"),
            step => assert_eq!(
                (refused(&step).reason, valid),
                (Reason::ConnectionAmbiguous, false),
                "{value}"
            ),
        }
    }
}

#[test]
fn two_hosts_joined_into_one_are_refused() {
    use crate::Header;
    for (authority, reason) in [
        ("a.example,b.example", Reason::HostAmbiguous),
        ("a.example, b.example", Reason::HostAmbiguous),
        ("a.example", Reason::NoRule),
    ] {
        let headers: [Header<'_>; 3] = [
            (b":method", b"GET"),
            (b":path", b"/x"),
            (b":authority", authority.as_bytes()),
        ];
        assert_eq!(
            refused(&fixture().begin_with(&headers)).reason,
            reason,
            "{authority}"
        );
    }
}

#[test]
fn an_address_limit_comes_before_any_credential() {
    let fixture = fixture();
    for _ in 0..3 {
        assert_eq!(
            refused(&fixture.get("/login", &[("x-api-key", "guess")])).reason,
            Reason::ApiKeyUnknown
        );
    }
    let step = fixture.get("/login", &[("x-api-key", "alpha")]);
    let denial = refused(&step);
    assert_eq!(denial.reason, Reason::LimitExceeded);
    let headers: Vec<_> = denial
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(
        headers,
        [
            "retry-after: 20",
            "ratelimit-policy: \"flood\";q=3;w=60",
            "ratelimit: \"flood\";r=0;t=20",
        ]
    );
}

#[test]
fn keys_of_a_limit_are_counted_together() {
    let fixture = fixture();
    let get = |region: &str| fixture.get("/limited", &[("x-api-key", "alpha"), ("x-region", region)]);
    for region in ["a", "b"] {
        admitted(&get(region));
        admitted(&get(region));
        assert_eq!(refused(&get(region)).reason, Reason::LimitExceeded, "{region}");
    }
    fixture.advance(Duration::from_secs(5));
    admitted(&get("a"));
    assert_eq!(refused(&get("a")).reason, Reason::LimitExceeded);
}

#[test]
fn denials_contain_only_what_the_client_needs() {
    let fixture = fixture();
    let step = fixture.get("/both", &[]);
    let denial = refused(&step);
    assert_eq!(denial.details(), "postern:both:credentials_missing");
    assert_eq!(
        denial.headers,
        [("www-authenticate", "ApiKey realm=\"postern\"".into())]
    );
    assert_eq!(
        denial.body(Some("id-1")),
        "{\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"code\":\"credentials_missing\",\
         \"request_id\":\"id-1\"}"
    );
    let step = fixture.get("/nowhere", &[]);
    assert_eq!(refused(&step).details(), "postern:-:no_rule");
}

#[test]
fn hosts_are_compared_without_port_and_case() {
    let config = json!({"rules": [
        {"name": "h", "match": {"hosts": ["API.example.com"]}, "open": true},
    ]});
    assert!(matches!(Fixture::new(&config).get("/", &[]), Step::Continue(_)));
    assert_eq!(refused(&fixture().get("/host", &[])).reason, Reason::NoRule);
}

#[test]
fn default_allow_admits_and_strips() {
    let fixture = Fixture::new(&json!({"rules": [], "default": "allow"}));
    let Step::Continue(effects) = fixture.get("/x", &[("x-postern-subject", "root")]) else {
        panic!()
    };
    assert_eq!(effects.strip, ["x-postern-subject"]);
    assert!(effects.identity.is_none());
}

#[test]
fn the_configured_identity_headers_are_set() {
    for (configured, names) in [
        (json!(["subject"]), &["x-postern-subject"][..]),
        (
            json!(["tenant", "roles"]),
            &["x-postern-roles", "x-postern-tenant"],
        ),
        (json!([]), &[]),
    ] {
        let fixture = Fixture::new(&json!({
            "identity_headers": configured,
            "api_keys": {"a": {"keys": [{"id": "ci", "digest": digest("k"), "roles": ["r"], "tenant": "t"}]}},
            "rules": [{"name": "all", "authenticate": {"any": ["api_keys/a"]}}],
        }));
        let headers = [("x-api-key", "k"), ("x-postern-method", "forged")];
        let step = fixture.get("/", &headers);
        let sent: Vec<_> = admitted(&step)
            .headers()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(sent, names);
        let Step::Continue(effects) = &step else { panic!() };
        assert_eq!(
            effects.strip,
            ["x-postern-method"],
            "stripped though it is not set"
        );
    }
}

#[test]
fn configured_claim_headers_are_reserved_in_both_spellings() {
    let fixture = Fixture::new(&json!({
        "issuers": {"i": {"issuer": "i", "audiences": ["a"], "algorithms": ["EdDSA"], "headers": {"x_tenant-id": "tid"},
                          "jwks": {"uri": "http://i/", "cluster": "c"}}},
        "rules": [{"name": "open", "open": true}],
    }));
    let sent = [
        ("x_tenant-id", "victim"),
        ("x-tenant-id", "victim"),
        ("x_tenant_id", "victim"),
        ("x-tenant", "kept"),
    ];
    let Step::Continue(effects) = fixture.get("/", &sent) else {
        panic!()
    };
    assert_eq!(effects.strip, ["x_tenant-id", "x-tenant-id", "x_tenant_id"]);
}

#[test]
fn callers_with_the_same_name_in_two_entries_are_counted_separately() {
    let fixture = Fixture::new(&json!({
        "api_keys": {
            "a": {"keys": [{"id": "ci", "digest": digest("one")}]},
            "b": {"header": "x-other", "keys": [{"id": "ci", "digest": digest("two")}]},
        },
        "limits": {"l": {"quota": 1, "window": "60s", "key": ["subject"]}},
        "rules": [{"name": "all", "authenticate": {"any": ["api_keys/a", "api_keys/b"]}, "limits": ["l"]}],
    }));
    admitted(&fixture.get("/", &[("x-api-key", "one")]));
    admitted(&fixture.get("/", &[("x-other", "two")]));
    assert_eq!(
        refused(&fixture.get("/", &[("x-other", "two")])).reason,
        Reason::LimitExceeded
    );
}

fn header<'a>(step: &'a Step, name: &str) -> &'a str {
    let headers = &refused(step).headers;
    let found = headers.iter().find(|(header, _)| *header == name);
    found.map_or("", |(_, value)| value)
}

/// A request that one limit refuses is charged to none, whether that limit is checked before authentication or after.
#[test]
fn limits_of_a_rule_are_all_or_nothing() {
    let fixture = Fixture::new(&json!({
        "api_keys": {"agents": {"keys": [{"id": "alpha", "digest": digest("alpha")}]}},
        "limits": {
            "address": {"quota": 50, "window": "1d", "key": ["address"]},
            "day": {"quota": 100, "window": "1d", "key": ["subject"]},
            "second": {"quota": 1, "window": "1s", "key": ["subject"]},
        },
        "rules": [{"name": "all", "authenticate": {"any": ["api_keys/agents"]}, "limits": ["day", "second", "address"]}],
    }));
    let call = || fixture.get("/", &[("x-api-key", "alpha")]);
    admitted(&call());
    for _ in 0..130 {
        let step = call();
        assert_eq!(refused(&step).reason, Reason::LimitExceeded);
        assert_eq!(header(&step, "retry-after"), "1");
        assert_eq!(
            header(&step, "ratelimit"),
            "\"address\";r=49;t=1728, \"day\";r=99;t=864, \"second\";r=0;t=1"
        );
    }
    for _ in 0..20 {
        fixture.advance(Duration::from_secs(1));
        admitted(&call());
    }
}

/// A request that one limit cannot count is charged to none.
#[test]
fn an_unreadable_table_does_not_charge_other_limits() {
    let fixture = Fixture::new(&json!({
        "limits": {
            "address": {"quota": 3, "window": "1d", "key": ["address"]},
            "region": {"quota": 100, "window": "1d", "key": ["header:x-region"]},
        },
        "rules": [
            {"name": "one", "match": {"path": {"exact": "/one"}}, "open": true, "limits": ["address"]},
            {"name": "both", "match": {"path": {"exact": "/both"}}, "open": true, "limits": ["address", "region"]},
        ],
    }));
    let reason = |path| match fixture.get(path, &[]) {
        Step::Deny(denial) => Some(denial.reason),
        _ => None,
    };
    assert_eq!(reason("/one"), None);
    let before = fixture.state().names();
    assert_eq!(reason("/both"), None);
    for name in fixture.state().names().difference(&before) {
        fixture.state().set(name, b"not a bucket", None).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(reason("/both"), Some(Reason::LimitUnavailable));
    }
    assert_eq!(reason("/one"), None);
    assert_eq!(reason("/one"), Some(Reason::LimitExceeded));
}

#[test]
fn two_tokens_in_one_header_are_refused_in_either_order() {
    let config = json!({
        "api_keys": {"agents": {"keys": [{"id": "alpha", "digest": digest("alpha")}]}},
        "issuers": {"idp": {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "S"}}},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/idp", "api_keys/agents"]}}],
    });
    let fixture = Fixture::with_secrets(&config, &[("S", "0123456789abcdef0123456789abcdef")]);
    for (value, reason) in [
        ("Bearer a.b.c, Basic eDp5", Some(Reason::CredentialsAmbiguous)),
        ("Basic eDp5, Bearer a.b.c", Some(Reason::CredentialsAmbiguous)),
        ("Basic eDp5,bearer a.b.c", Some(Reason::CredentialsAmbiguous)),
        ("Bearer a.b.c", Some(Reason::TokenMalformed)),
        ("Basic eDp5", None),
        ("Digest username=\"x\", realm=\"y\"", None),
    ] {
        let step = fixture.get("/", &[("authorization", value), ("x-api-key", "alpha")]);
        match reason {
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{value}"),
            None => assert_eq!(admitted(&step).subject, "alpha", "{value}"),
        }
    }
}

#[test]
fn retry_after_is_the_longest_wait_of_all_limits() {
    let fixture = Fixture::new(&json!({
        "api_keys": {"agents": {"keys": [{"id": "alpha", "digest": digest("alpha")}]}},
        "limits": {
            "long": {"quota": 1, "window": "60s", "key": ["subject"]},
            "short": {"quota": 1, "window": "2s", "key": ["subject", "header:x-a"]},
        },
        "rules": [{"name": "all", "authenticate": {"any": ["api_keys/agents"]}, "limits": ["short", "long"]}],
    }));
    let call = || fixture.get("/", &[("x-api-key", "alpha")]);
    admitted(&call());
    fixture.advance(Duration::from_millis(500));
    assert_eq!(header(&call(), "retry-after"), "60");
    fixture.advance(Duration::from_millis(59_499));
    assert_eq!(header(&call(), "retry-after"), "1");
    fixture.advance(Duration::from_millis(1));
    admitted(&call());
}
