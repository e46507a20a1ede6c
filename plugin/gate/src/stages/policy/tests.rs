use prost::Message;
use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::policy::{AppendAction, Change, Grant};
use crate::testing::{Fixture, admitted, refused};

fn digest(key: &str) -> String {
    use ct_codecs::{Encoder, Hex};
    use sha2::{Digest, Sha256};
    format!("sha256:{}", Hex::encode_to_string(Sha256::digest(key)).unwrap())
}

fn config() -> Value {
    json!({
        "host": {"cluster": "postern_host"},
        "issuers": {"i": {"issuer": "i", "audiences": ["a"], "algorithms": ["EdDSA"], "headers": {"x_tenant-id": "tid"},
                          "jwks": {"uri": "http://i/", "cluster": "c"}}},
        "api_keys": {"a": {"header": "x-key", "keys": [
            {"id": "ci", "digest": digest("one"), "roles": ["r", "s"], "tenant": "t"},
            {"id": "cd", "digest": digest("two"), "roles": ["r"]},
        ]}},
        "signatures": {"hooks": {"scheme": "github", "secrets": [{"env": "S"}], "max_body": "1KiB"}},
        "limits": {"l": {"quota": 100, "window": "60s", "key": ["subject"]}},
        "rules": [
            {"name": "role", "match": {"path": {"exact": "/role"}}, "authenticate": {"any": ["api_keys/a"]},
             "authorize": {"roles": ["s"]}, "policy": {"module": "m"}},
            {"name": "cached", "match": {"path": {"prefix": "/cached"}}, "authenticate": {"any": ["api_keys/a"]},
             "limits": ["l"], "policy": {"module": "m"}},
            {"name": "waived", "match": {"path": {"exact": "/waived"}}, "open": true,
             "policy": {"module": "m", "on_error": "allow"}},
            {"name": "fresh", "match": {"path": {"exact": "/fresh"}}, "open": true,
             "policy": {"module": "m", "cache": false}},
            {"name": "body", "match": {"path": {"exact": "/body"}}, "open": true,
             "policy": {"module": "m", "body": "8B"}},
            {"name": "signed", "match": {"path": {"exact": "/signed"}}, "authenticate": {"any": ["signatures/hooks"]},
             "policy": {"module": "m", "body": "8B"}},
        ],
    })
}

fn fixture() -> Fixture {
    Fixture::with_secrets(&config(), &[("S", "the-secret")])
}

fn allow() -> PolicyResponse {
    PolicyResponse::Allow(Allowance::default())
}

fn sets(name: &str, value: &[u8]) -> PolicyResponse {
    PolicyResponse::Allow(Allowance {
        request: vec![change(name, value)],
        ..Allowance::default()
    })
}

fn change(name: &str, value: &[u8]) -> Change {
    Change {
        name: name.into(),
        value: value.to_vec(),
        action: AppendAction::Overwrite,
    }
}

fn grants(parts: &[&str]) -> PolicyResponse {
    PolicyResponse::Allow(Allowance {
        request: vec![change("x-from", b"policy")],
        grant: Grant::new(1_000.0, parts.iter().copied()),
        ..Allowance::default()
    })
}

fn down() -> PolicyResponse {
    PolicyResponse::Unavailable("down".into())
}

const ONE: (&str, &str) = ("x-key", "one");
const TWO: (&str, &str) = ("x-key", "two");

#[test]
fn the_policy_is_called_last() {
    let fixture = fixture();
    let (step, called) = fixture.get_with_policy("/role", &[TWO], allow());
    assert_eq!(refused(&step).reason, Reason::RoleMissing);
    assert!(
        called.is_none(),
        "the policy is not called for requests that the gate refuses"
    );
    let (step, called) = fixture.get_with_policy("/role", &[ONE], allow());
    assert_eq!(admitted(&step).subject, "ci");
    assert!(called.is_some());
    let (step, _) = fixture.get_with_policy("/role", &[ONE], PolicyResponse::Deny(None));
    assert_eq!(refused(&step).reason, Reason::PolicyDenied);
    assert_eq!(refused(&step).status(), 403);
    assert_eq!(refused(&step).details(), "postern:role:policy_denied");
}

#[test]
fn the_response_of_a_policy_is_passed_on() {
    let reply = Reply {
        status: 451,
        headers: vec![("x-why".into(), b"\xff".to_vec())],
        body: "no".into(),
    };
    let fixture = fixture();
    let (step, _) = fixture.get_with_policy("/cached", &[ONE], PolicyResponse::Deny(Some(reply.clone())));
    let denial = refused(&step);
    assert_eq!((denial.reason, denial.status()), (Reason::PolicyDenied, 451));
    assert_eq!(denial.reply.as_deref(), Some(&reply));
    let names: Vec<_> = denial.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["ratelimit-policy", "ratelimit"],
        "limits are reported too"
    );
    for (name, value) in [("content-length", "0"), (":status", "200"), ("x-a", "a\r\nb: c")] {
        let headers = vec![(name.to_owned(), value.as_bytes().to_vec())];
        let reply = Reply {
            headers,
            ..reply.clone()
        };
        let (step, _) = fixture.get_with_policy("/cached", &[ONE], PolicyResponse::Deny(Some(reply)));
        assert_eq!(refused(&step).reason, Reason::PolicyFailed, "{name}");
    }
}

#[test]
fn only_an_unreachable_host_can_be_waived() {
    let fixture = fixture();
    let (step, _) = fixture.get_with_policy("/fresh", &[], down());
    let denial = refused(&step);
    assert_eq!(denial.reason, Reason::PolicyUnavailable);
    assert_eq!(denial.headers, [("retry-after", "1".into())]);
    assert!(denial.body(None).contains("\"code\":\"policy_unavailable\""));
    fixture.observations.0.borrow_mut().clear();
    let (step, _) = fixture.get_with_policy("/waived", &[], down());
    assert!(matches!(step, Step::Continue(_)));
    let observations = fixture.observations.0.borrow().join("\n");
    assert!(
        observations.contains("PolicyFailedOpen { rule: RuleId(2) }") && observations.contains("Admitted"),
        "{observations}"
    );
    for path in ["/waived", "/fresh"] {
        let (step, _) = fixture.get_with_policy(path, &[], PolicyResponse::Failed("trapped".into()));
        assert_eq!(refused(&step).reason, Reason::PolicyFailed, "{path}");
        let (step, _) = fixture.get_with_policy(path, &[], PolicyResponse::Deny(None));
        assert_eq!(refused(&step).reason, Reason::PolicyDenied, "{path}");
    }
}

#[test]
fn a_policy_cannot_set_framing_or_identity_headers() {
    let fixture = fixture();
    for name in [
        ":path",
        ":authority",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "x-postern-subject",
        "x-postern-anything",
        "x_postern_roles",
        "x-tenant-id",
        "x_tenant_id",
        "x a",
    ] {
        let (step, _) = fixture.get_with_policy("/fresh", &[], sets(name, b"v"));
        assert_eq!(refused(&step).reason, Reason::PolicyFailed, "{name}");
    }
    for value in [&b"a\r\nb: c"[..], b"a\nb", b"\0"] {
        let (step, _) = fixture.get_with_policy("/fresh", &[], sets("x-a", value));
        assert_eq!(refused(&step).reason, Reason::PolicyFailed, "{value:?}");
    }
    let response = |name: &str| {
        PolicyResponse::Allow(Allowance {
            response: vec![change(name, b"v")],
            ..Allowance::default()
        })
    };
    let (step, _) = fixture.get_with_policy("/fresh", &[], response("transfer-encoding"));
    assert_eq!(refused(&step).reason, Reason::PolicyFailed);
    let (step, _) = fixture.get_with_policy("/fresh", &[], response("set-cookie"));
    assert!(matches!(step, Step::Continue(_)));
    let removes = |name: &str| {
        PolicyResponse::Allow(Allowance {
            remove: vec![name.into(), "x-b".into()],
            ..Allowance::default()
        })
    };
    let (step, _) = fixture.get_with_policy("/fresh", &[], removes("content-length"));
    assert_eq!(refused(&step).reason, Reason::PolicyFailed);
    for ignored in ["host", ":path"] {
        let (step, _) = fixture.get_with_policy("/fresh", &[], removes(ignored));
        let Step::Continue(effects) = step else { panic!() };
        assert_eq!(effects.policy.unwrap().remove, ["x-b"], "{ignored}");
    }
}

#[test]
fn a_policy_gets_the_caller_and_no_credentials() {
    let fixture = fixture();
    let headers = [
        ONE,
        ("authorization", "Bearer token"),
        ("x-hub-signature-256", "sha256=00"),
        ("x-postern-subject", "root"),
        ("x_tenant-id", "victim"),
        ("x-other", "seen"),
    ];
    let (_, message) = fixture.get_with_policy("/cached", &headers, allow());
    let message = message.unwrap();
    let text = String::from_utf8_lossy(&message);
    for hidden in ["one", "token", "sha256=", "root", "victim"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert!(text.contains("seen"));
    let identity = "{\"subject\":\"ci\",\"issuer\":\"api_keys/a\",\"method\":\"api_key\",\"roles\":[\"r\",\"s\"],\
                    \"tenant\":\"t\",\"claims\":{}}";
    assert!(text.contains(identity), "{text}");
    let (_, message) = fixture.get_with_policy("/fresh", &[("authorization", "Basic dXNlcg==")], allow());
    let text = String::from_utf8_lossy(&message.unwrap()).into_owned();
    assert!(
        text.contains("Basic dXNlcg==") && !text.contains("postern.identity"),
        "{text}"
    );
}

#[test]
fn a_body_is_sent_once_it_is_complete_and_not_too_large() {
    let fixture = fixture();
    for (path, body, outcome) in [
        ("/body", &b"\0\xff 45678"[..], None),
        ("/body", b"", None),
        ("/body", b"123456789", Some(Reason::BodyTooLarge)),
    ] {
        let (step, message) = fixture.post_with_policy(path, &[], body, allow());
        match outcome {
            None => {
                assert!(matches!(step, Step::Continue(_)), "{step:?}");
                let message = crate::policy::CheckRequest::decode(message.unwrap().as_slice()).unwrap();
                let http = message.attributes.unwrap().request.unwrap().http.unwrap();
                assert_eq!(http.raw_body, body);
            }
            Some(reason) => {
                assert_eq!(refused(&step).reason, reason);
                assert!(message.is_none());
            }
        }
    }
    let step = fixture.begin("POST", "/body", &[("content-length", "9")], false);
    assert_eq!(
        refused(&step).reason,
        Reason::BodyTooLarge,
        "before it is received"
    );
    assert!(matches!(fixture.get("/body", &[]), Step::Need(Need::Policy(_))));
}

#[test]
fn a_signed_body_is_buffered_once() {
    use hmac::{KeyInit, Mac};
    let fixture = fixture();
    for (body, outcome) in [
        (&b"12345678"[..], None),
        (b"123456789", Some(Reason::BodyTooLarge)),
    ] {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"the-secret").unwrap();
        mac.update(body);
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let signature = format!("sha256={hex}");
        let headers = [("x-hub-signature-256", signature.as_str())];
        // `post` passes the body once; the policy must not require it again.
        let (step, message) = fixture.post_with_policy("/signed", &headers, body, allow());
        match outcome {
            None => assert_eq!(admitted(&step).subject, "hooks"),
            Some(reason) => assert_eq!(refused(&step).reason, reason),
        }
        assert_eq!(message.is_some(), outcome.is_none());
    }
}

#[test]
fn a_cached_decision_is_used_for_equal_requests() {
    let fixture = fixture();
    let get_with_policy = |path: &str, headers: &[(&str, &str)], response| {
        let (step, called) = fixture.get_with_policy(path, headers, response);
        assert!(matches!(step, Step::Continue(_)), "{step:?}");
        let Step::Continue(effects) = step else { panic!() };
        (called.is_some(), effects)
    };
    let parts = ["identity", "path", "header:x-a"];
    assert!(get_with_policy("/cached", &[ONE], grants(&parts)).0);
    // The response would deny: that the request is admitted shows that the policy was not called.
    let (called, effects) =
        get_with_policy("/cached?other", &[ONE, ("x-b", "1")], PolicyResponse::Deny(None));
    assert!(!called);
    assert_eq!(effects.policy.unwrap().request, [change("x-from", b"policy")]);
    assert_eq!(effects.identity.unwrap().subject, "ci");
    for (path, headers) in [
        ("/cached/x", &[ONE][..]),
        ("/cached", &[TWO]),
        ("/cached", &[ONE, ("x-a", "1")]),
        ("/cached", &[ONE, ("x-a", "")]),
    ] {
        assert!(get_with_policy(path, headers, allow()).0, "{path} {headers:?}");
    }
    fixture.advance(Duration::from_millis(999));
    assert!(!get_with_policy("/cached", &[ONE], allow()).0);
    fixture.advance(Duration::from_millis(1));
    assert!(get_with_policy("/cached", &[ONE], allow()).0, "expired");
    let observations = fixture.observations.0.borrow();
    let count = |what: &str| {
        observations
            .iter()
            .filter(|observation| observation.starts_with(what))
            .count()
    };
    assert_eq!((count("PolicyCalled"), count("PolicyCached")), (6, 2));
}

#[test]
fn decisions_that_may_not_be_cached_call_the_policy_each_time() {
    let fixture = fixture();
    for _ in 0..2 {
        assert!(fixture.get_with_policy("/cached", &[ONE], allow()).1.is_some());
        assert!(
            fixture
                .get_with_policy("/cached", &[ONE], grants(&["mood"]))
                .1
                .is_some()
        );
        assert!(fixture.get_with_policy("/fresh", &[], grants(&[])).1.is_some());
        assert!(
            fixture
                .post_with_policy("/body", &[], b"1", grants(&[]))
                .1
                .is_some()
        );
        assert!(fixture.get_with_policy("/waived", &[], down()).1.is_some());
    }
    assert!(
        fixture
            .get_with_policy("/cached", &[ONE], grants(&[]))
            .1
            .is_some()
    );
    assert!(
        fixture
            .get_with_policy("/cached/any", &[TWO], allow())
            .1
            .is_none(),
        "no parts: for all requests of the rule"
    );
}
