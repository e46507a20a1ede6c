use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::policy::PolicyResponse;
use crate::testing::{Fixture, head, request};
use crate::{Need, Reason, Step};

fn digest(key: &str) -> String {
    use ct_codecs::{Encoder, Hex};
    use sha2::{Digest, Sha256};
    format!("sha256:{}", Hex::encode_to_string(Sha256::digest(key)).unwrap())
}

fn config() -> Value {
    json!({
        "host": {"cluster": "postern_host", "token": {"env": "SECRET"}},
        "audit": {},
        "api_keys": {"agents": {"keys": [
            {"id": "ci", "digest": digest("SECRET-key"), "tenant": "acme"},
            {"id": "ä".repeat(200), "digest": digest("SECRET-long")},
        ]}},
        "signatures": {"hooks": {"scheme": "github", "secrets": [{"env": "SECRET"}]}},
        "rules": [
            {"name": "off", "match": {"path": {"prefix": "/off"}}, "open": true, "audit": "off"},
            {"name": "required", "match": {"path": {"prefix": "/required"}},
             "authenticate": {"any": ["api_keys/agents"]}, "audit": "required"},
            {"name": "policy", "match": {"path": {"prefix": "/policy"}}, "open": true,
             "policy": {"module": "m"}},
            {"name": "waived", "match": {"path": {"prefix": "/waived"}}, "open": true,
             "policy": {"module": "m", "on_error": "allow"}},
            {"name": "hook", "match": {"path": {"prefix": "/hook"}}, "authenticate": {"any": ["signatures/hooks"]}},
            {"name": "keyed", "match": {"path": {"prefix": "/keyed"}}, "authenticate": {"any": ["api_keys/agents"]}},
        ],
    })
}

fn fixture() -> Fixture {
    Fixture::with_secrets(&config(), &[("SECRET", "SECRET-shared")])
}

const LATENCY: Duration = Duration::from_micros(1_500);

fn meta() -> EventMeta<'static> {
    EventMeta {
        random: [7; 10],
        time: Duration::from_micros(1_767_225_600_000_001),
        gateway: Some("edge-1"),
    }
}

/// The event of a GET, for which the upstream returns 204 if it is released.
fn recorded_event(
    fixture: &Fixture,
    target: &str,
    headers: &[(&str, &str)],
    response: PolicyResponse,
) -> Option<Value> {
    let fields = head("GET", target, headers);
    let head = RequestHead::of(&request(&fields, true));
    let (mut step, _) = fixture.get_with_policy(target, headers, response);
    if let Step::Need(Need::Audit(pending)) = step {
        step = fixture.resume_after_audit(pending, true);
    }
    let (context, outcome) = match step {
        Step::Continue(effects) => (effects.context, RequestOutcome::Released(Some(204))),
        Step::Deny(denial) => {
            let outcome = RequestOutcome::Refused(denial.reason, denial.status());
            (denial.context, outcome)
        }
        Step::Need(_) => panic!("{step:?}"),
    };
    let event = fixture
        .gate()
        .event(Some(&head), &context, outcome, Some(LATENCY), &meta())?;
    Some(serde_json::from_str(&event.to_json()).unwrap())
}

#[test]
fn every_decision_is_recorded() {
    let fixture = fixture();
    let key = ("x-api-key", "SECRET-key");
    let id = ("x-request-id", "r-1");
    let down = || PolicyResponse::Unavailable("down".into());
    for (target, headers, response, expected) in [
        (
            "/keyed/a?page=2",
            &[key, id][..],
            down(),
            json!({
            "decision": "allowed", "detail": {"authenticated_by": "api_keys/agents"}, "path": "/keyed/a?page",
            "request_id": "r-1", "rule": "keyed", "status": 204, "subject": "ci", "tenant": "acme"}),
        ),
        (
            "/required",
            &[key],
            down(),
            json!({
            "decision": "allowed", "detail": {"authenticated_by": "api_keys/agents"}, "path": "/required",
            "rule": "required", "status": 204, "subject": "ci", "tenant": "acme"}),
        ),
        (
            "/keyed",
            &[],
            down(),
            json!({
            "decision": "denied", "path": "/keyed", "reason": "credentials_missing", "rule": "keyed", "status": 401}),
        ),
        (
            "/none",
            &[key],
            down(),
            json!({
            "decision": "denied", "path": "/none", "reason": "no_rule", "status": 403}),
        ),
        (
            "/keyed/../x",
            &[key],
            down(),
            json!({
            "decision": "denied", "path": "/keyed/../x", "reason": "path_ambiguous", "status": 400}),
        ),
        (
            "/policy",
            &[],
            PolicyResponse::Deny(None),
            json!({
            "decision": "denied", "path": "/policy", "policy": "m", "reason": "policy_denied", "rule": "policy",
            "status": 403}),
        ),
        (
            "/policy",
            &[],
            down(),
            json!({
            "decision": "failed", "path": "/policy", "policy": "m", "reason": "policy_unavailable", "rule": "policy",
            "status": 503}),
        ),
        (
            "/waived",
            &[],
            down(),
            json!({
            "decision": "allowed", "detail": {"policy_waived": true}, "path": "/waived", "policy": "m",
            "rule": "waived", "status": 204}),
        ),
    ] {
        let mut expected = expected;
        for (name, value) in [
            ("gateway", json!("edge-1")),
            ("id", json!("019b76da-a800-7707-8707-070707070707")),
            ("kind", json!("request")),
            ("latency_us", json!(1500)),
            ("method", json!("GET")),
            ("time", json!("2026-01-01T00:00:00.000001Z")),
        ] {
            expected[name] = value;
        }
        assert_eq!(
            recorded_event(&fixture, target, headers, response),
            Some(expected),
            "{target}"
        );
    }
    assert_eq!(recorded_event(&fixture, "/off", &[], down()), None);
}

#[test]
fn nothing_is_recorded_without_audit_settings() {
    let document = json!({"rules": [{"name": "a", "open": true}]});
    assert_eq!(
        recorded_event(&Fixture::new(&document), "/", &[], PolicyResponse::Deny(None)),
        None
    );
}

#[test]
fn admissions_and_abandoned_requests_are_recorded() {
    let fixture = fixture();
    let headers = [("x-api-key", "SECRET-key")];
    let Step::Need(Need::Audit(pending)) = fixture.get("/required", &headers) else {
        panic!()
    };
    let context = pending.context();
    let event = |outcome| {
        let event = fixture
            .gate()
            .event(None, &context, outcome, None, &meta())
            .unwrap();
        serde_json::from_str::<Value>(&event.to_json()).unwrap()
    };
    let mut expected = json!({
        "decision": "allowed", "detail": {"authenticated_by": "api_keys/agents"}, "gateway": "edge-1",
        "id": "019b76da-a800-7707-8707-070707070707", "kind": "admission", "rule": "required", "subject": "ci",
        "tenant": "acme", "time": "2026-01-01T00:00:00.000001Z"});
    assert_eq!(event(RequestOutcome::Admission), expected);
    expected["kind"] = json!("request");
    expected["decision"] = json!("failed");
    expected["reason"] = json!("abandoned");
    assert_eq!(event(RequestOutcome::Abandoned(None)), expected);
    expected["status"] = json!(504);
    assert_eq!(event(RequestOutcome::Abandoned(Some(504))), expected);
    let lost = AuditEvent::lost(3, &meta()).to_json();
    let lost: Value = serde_json::from_str(&lost).unwrap();
    assert_eq!(
        (&lost["kind"], &lost["detail"]["count"]),
        (&json!("lost"), &json!(3))
    );
}

#[test]
fn no_secret_is_recorded() {
    let fixture = fixture();
    for (target, headers) in [
        ("/keyed?token=SECRET", &[("x-api-key", "SECRET-key")][..]),
        ("/keyed?SECRET", &[("x-api-key", "SECRET-wrong")]),
        (
            "/keyed?a=1&SECRET==&b=SECRET",
            &[("authorization", "Bearer SECRET")],
        ),
        (
            "/keyed;sid=SECRET?a=1;k=SECRET",
            &[("authorization", "Basic SECRET"), ("cookie", "sid=SECRET")],
        ),
        ("/keyed#SECRET", &[("proxy-authorization", "SECRET")]),
        (
            "http://user:SECRET@api.example.com/keyed",
            &[("x-forwarded-access-token", "SECRET")],
        ),
        (
            "/hook",
            &[("x-hub-signature-256", "sha256=SECRET"), ("signature", "SECRET")],
        ),
        (
            "/policy",
            &[("cookie", "SECRET"), ("x-request-id", "SECRET with a space")],
        ),
        (
            "/none",
            &[
                ("x-postern-subject", "SECRET"),
                ("traceparent", "SECRET"),
                ("user-agent", "SECRET"),
            ],
        ),
    ] {
        let response = PolicyResponse::Failed("SECRET".into());
        let event = recorded_event(&fixture, target, headers, response)
            .unwrap()
            .to_string();
        assert!(!event.contains("SECRET"), "{target}: {event}");
    }
    assert!(!format!("{:?}", fixture.gate()).contains("SECRET-shared"));
}

#[test]
fn texts_are_truncated() {
    let fixture = fixture();
    let event = recorded_event(
        &fixture,
        "/keyed",
        &[("x-api-key", "SECRET-long")],
        PolicyResponse::Deny(None),
    )
    .unwrap();
    assert_eq!(event["subject"], "ä".repeat(128));
    let method = "M".repeat(300);
    let fields = head(&method, "/", &[]);
    assert_eq!(RequestHead::of(&request(&fields, true)).method().len(), 256);
    let late = EventMeta {
        time: Duration::MAX,
        ..meta()
    };
    assert!(
        AuditEvent::lost(1, &late)
            .to_json()
            .contains("9999-12-31T23:59:59")
    );
}

#[test]
fn a_request_body_and_its_response() {
    let body: Value = serde_json::from_str(&encode_single(&AuditEvent::lost(1, &meta()))).unwrap();
    assert_eq!(body["events"].as_array().map(Vec::len), Some(1));
    for (status, response, expected) in [
        (&b"200"[..], &br#"{"durable": 3}"#[..], Some(3)),
        (b"200", br#"{"durable": 3, "more": true}"#, Some(3)),
        (b"200", b"", None),
        (b"200", b"<html>", None),
        (b"200", br#"{"durable": -1}"#, None),
        (b"503", br#"{"durable": 3}"#, None),
        (b"204", br#"{"durable": 3}"#, None),
        (b"", br#"{"durable": 3}"#, None),
    ] {
        assert_eq!(
            durable_count(status, response),
            expected,
            "{status:?} {response:?}"
        );
    }
    assert_eq!(Reason::AuditUnavailable.name(), "audit_unavailable");
}
