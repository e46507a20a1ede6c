use envoy_types::pb::envoy::config::core::v3::{self as core, HeaderMap, HeaderValue, Pipe, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request as Asked;

use super::*;

const CALLER: &str = r#"{"subject":"ann","issuer":"issuers/sigil","method":"jwt","roles":["Operator"],"tenant":"t1","claims":{"sub":"ann","a":[1,2.50]}}"#;

fn http() -> HttpRequest {
    HttpRequest {
        id: "r-1".into(),
        method: "POST".into(),
        path: "/%6frders/7?x=%2F&y".into(),
        host: "api.example.com:8443".into(),
        scheme: "https".into(),
        ..HttpRequest::default()
    }
}

fn check(http: Option<HttpRequest>, extensions: &[(&str, &str)]) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Asked { time: None, http }),
            context_extensions: extensions
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..AttributeContext::default()
        }),
    }
}

fn parse(http: HttpRequest, extensions: &[(&str, &str)]) -> PolicyCall {
    PolicyCall::parse(check(Some(http), extensions), None).unwrap()
}

fn pairs(mut http: HttpRequest) -> Vec<(String, Vec<u8>)> {
    let mut pairs: Vec<_> = headers(&mut http)
        .into_iter()
        .map(|h| (h.name, h.value))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn a_request_of_a_gate_is_parsed() {
    let mut sent = http();
    sent.raw_body = vec![0, 255];
    let extensions = [
        (MODULE_EXTENSION, "rbac"),
        (RULE_EXTENSION, "orders"),
        (IDENTITY_EXTENSION, CALLER),
    ];
    let mut check = check(Some(sent), &extensions);
    let attributes = check.attributes.as_mut().unwrap();
    attributes.request.as_mut().unwrap().time = Some(Timestamp {
        seconds: 12,
        nanos: 345_678_901,
    });
    let socket = SocketAddress {
        address: "2001:db8::7".into(),
        ..SocketAddress::default()
    };
    let address = core::Address {
        address: Some(Address::SocketAddress(socket)),
    };
    attributes.source = Some(Peer {
        address: Some(address),
        ..Peer::default()
    });

    let call = PolicyCall::parse(check, Some("other")).unwrap();
    assert_eq!(call.policy.as_deref(), Some("rbac"));
    let request = call.request.unwrap();
    assert_eq!(
        (
            request.id.as_str(),
            request.rule.as_str(),
            request.method.as_str()
        ),
        ("r-1", "orders", "POST")
    );
    assert_eq!(
        (request.scheme.as_str(), request.authority.as_str()),
        ("https", "api.example.com:8443")
    );
    assert_eq!(
        (request.path.as_str(), request.query.as_deref()),
        ("/orders/7", Some("x=%2F&y"))
    );
    assert_eq!(request.body.as_deref(), Some(&[0, 255][..]));
    assert_eq!(request.source_address.as_deref(), Some("2001:db8::7"));
    assert_eq!(request.time, 12_345);
    let identity = request.identity.unwrap();
    assert_eq!(
        (identity.subject.as_str(), identity.tenant.as_deref()),
        ("ann", Some("t1"))
    );
    assert_eq!(identity.claims, r#"{"sub":"ann","a":[1,2.50]}"#, "as they stand");
}

#[test]
fn a_truncated_body_is_not_decided_on() {
    for (value, usable) in [("true", false), ("false", true)] {
        let mut sent = http();
        sent.body = "{\"cpus\": 1".into();
        sent.headers.insert(PARTIAL_BODY_HEADER.into(), value.into());
        let request = parse(sent, &[(MODULE_EXTENSION, "sentinel")]).request;
        let code = request.err().map(|invalid| invalid.error.code());
        assert_eq!(code, (!usable).then_some("partial_body"), "{value}");
    }
}

#[test]
fn a_request_of_envoys_filter_is_parsed() {
    let mut sent = http();
    sent.path = "/orders".into();
    sent.body = "text".into();
    let mut check = check(Some(sent), &[]);
    let pipe = core::Address {
        address: Some(Address::Pipe(Pipe {
            path: "/run/x".into(),
            mode: 0,
        })),
    };
    check.attributes.as_mut().unwrap().source = Some(Peer {
        address: Some(pipe),
        ..Peer::default()
    });
    assert_eq!(PolicyCall::parse(check.clone(), None).unwrap().policy, None);
    let call = PolicyCall::parse(check, Some("rbac")).unwrap();
    assert_eq!(call.policy.as_deref(), Some("rbac"), "the default");
    let request = call.request.unwrap();
    assert_eq!((request.rule.as_str(), request.query), ("ext_authz", None));
    assert_eq!(request.body.as_deref(), Some(&b"text"[..]));
    assert!(request.identity.is_none() && request.source_address.is_none());
    assert!(request.time > 1_700_000_000_000, "now");
}

#[test]
fn headers_are_read_from_the_map_and_the_list() {
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut sent = http();
    sent.headers = [
        text(":path", "/"),
        text(":authority", "a"),
        text("X-Mixed", "1,2"),
        text("x-postern-subject", "eve"),
        text("X-Postern-Roles", "root"),
    ]
    .into();
    assert_eq!(pairs(sent.clone()), [("x-mixed".to_owned(), b"1,2".to_vec())]);

    let raw = |name: &str, raw: &[u8]| HeaderValue {
        key: name.into(),
        value: String::new(),
        raw_value: raw.to_vec(),
    };
    let worded = HeaderValue {
        key: "x-b".into(),
        value: "text".into(),
        raw_value: vec![],
    };
    sent.header_map = Some(HeaderMap {
        headers: vec![
            raw(":method", b"GET"),
            raw("x-a", b"1"),
            raw("X-A", b"\xff"),
            worded,
            raw("x-postern-a", b"e"),
        ],
    });
    let expected = [("x-a", &b"1"[..]), ("x-a", b"\xff"), ("x-b", b"text")];
    assert_eq!(
        pairs(sent),
        expected.map(|(name, value)| (name.to_owned(), value.to_vec()))
    );
}

#[test]
fn requests_that_no_policy_can_evaluate_are_rejected() {
    for path in ["", "orders", "/a/../b", "/a%2fb", "/a//b", "/a#b"] {
        let invalid = parse(
            HttpRequest {
                path: path.into(),
                ..http()
            },
            &[],
        )
        .request
        .unwrap_err();
        assert_eq!(
            (invalid.error.code(), invalid.id.as_str()),
            ("path_ambiguous", "r-1"),
            "{path}"
        );
    }
    for caller in [
        "ann",
        "[]",
        "{}",
        r#"{"subject":"","issuer":"i","method":"jwt","roles":[],"claims":{}}"#,
        r#"{"subject":"a","issuer":"i","method":"jwt","roles":[],"claims":[]}"#,
        r#"{"subject":"a","issuer":"i","method":"jwt","roles":"root","claims":{}}"#,
        r#"{"subject":"a","subject":"b","issuer":"i","method":"jwt","roles":[],"claims":{}}"#,
        r#"{"subject":"a","issuer":"i","method":"jwt","claims":{}}"#,
    ] {
        let invalid = parse(http(), &[(IDENTITY_EXTENSION, caller)])
            .request
            .unwrap_err();
        assert_eq!(invalid.error.code(), "identity", "{caller}");
        assert!(
            !invalid.error.to_string().contains(caller) || caller.len() < 4,
            "not repeated"
        );
    }
}

#[test]
fn checks_without_an_http_request_are_rejected() {
    assert!(PolicyCall::parse(CheckRequest::default(), Some("rbac")).is_none());
    assert!(PolicyCall::parse(check(None, &[]), Some("rbac")).is_none());
    assert!(PolicyCall::parse(check(Some(HttpRequest::default()), &[]), Some("rbac")).is_none());
}

#[test]
fn invalid_times_are_ignored() {
    for (seconds, nanos, expected) in [
        (1, 999_999, Some(1000)),
        (-1, 0, None),
        (0, -1, None),
        (i64::MAX, 0, None),
    ] {
        assert_eq!(millis(&Timestamp { seconds, nanos }), expected);
    }
}
