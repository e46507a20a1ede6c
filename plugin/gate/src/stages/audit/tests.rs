use serde_json::{Value, json};

use crate::policy::{Allowance, PolicyResponse};
use crate::testing::{Fixture, admitted, refused};
use crate::{Need, PendingAudit, Reason, Step};

fn digest(key: &str) -> String {
    use ct_codecs::{Encoder, Hex};
    use sha2::{Digest, Sha256};
    format!("sha256:{}", Hex::encode_to_string(Sha256::digest(key)).unwrap())
}

fn config() -> Value {
    json!({
        "host": {"cluster": "postern_host"},
        "audit": {},
        "api_keys": {"a": {"header": "x-key", "keys": [{"id": "ci", "digest": digest("one")}]}},
        "limits": {"l": {"quota": 2, "window": "60s", "key": ["subject"]}},
        "rules": [
            {"name": "plain", "match": {"path": {"exact": "/plain"}}, "open": true},
            {"name": "keyed", "match": {"path": {"exact": "/keyed"}}, "authenticate": {"any": ["api_keys/a"]},
             "limits": ["l"], "audit": "required"},
            {"name": "policy", "match": {"path": {"exact": "/policy"}}, "open": true,
             "policy": {"module": "m", "on_error": "allow"}, "audit": "required"},
        ],
    })
}

const KEY: (&str, &str) = ("x-key", "one");

fn pending_audit(step: Step) -> PendingAudit {
    match step {
        Step::Need(Need::Audit(pending)) => pending,
        other => panic!("does not wait for the audit log: {other:?}"),
    }
}

fn observed(fixture: &Fixture, what: &str) -> usize {
    fixture
        .observations
        .0
        .borrow()
        .iter()
        .filter(|event| event.contains(what))
        .count()
}

#[test]
fn only_requests_whose_admission_is_durable_are_released() {
    let fixture = Fixture::new(&config());
    let pending = pending_audit(fixture.get("/keyed", &[KEY]));
    assert_eq!(
        observed(&fixture, "Admitted"),
        0,
        "not admitted before it is recorded"
    );
    let step = fixture.resume_after_audit(pending, true);
    assert_eq!(admitted(&step).subject, "ci");
    let Step::Continue(effects) = step else { panic!() };
    assert_eq!(
        effects.response.len(),
        1,
        "the limit's state is kept while it waits"
    );
    assert_eq!(observed(&fixture, "Admitted"), 1);

    let pending = pending_audit(fixture.get("/keyed", &[KEY]));
    let step = fixture.resume_after_audit(pending, false);
    let denial = refused(&step);
    assert_eq!((denial.reason, denial.status()), (Reason::AuditUnavailable, 503));
    assert_eq!(denial.details(), "postern:keyed:audit_unavailable");
    let names: Vec<_> = denial.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ratelimit-policy", "ratelimit", "retry-after"]);
    assert_eq!(
        (observed(&fixture, "Admitted"), observed(&fixture, "Refused")),
        (1, 1)
    );
}

#[test]
fn the_admission_is_recorded_after_every_other_stage() {
    let fixture = Fixture::new(&config());
    assert_eq!(
        refused(&fixture.get("/keyed", &[])).reason,
        Reason::CredentialsMissing
    );
    for _ in 0..2 {
        let _ = pending_audit(fixture.get("/keyed", &[KEY]));
    }
    assert_eq!(
        refused(&fixture.get("/keyed", &[KEY])).reason,
        Reason::LimitExceeded
    );
    let (step, _) = fixture.get_with_policy("/policy", &[], PolicyResponse::Deny(None));
    assert_eq!(refused(&step).reason, Reason::PolicyDenied);
    for response in [
        PolicyResponse::Allow(Allowance::default()),
        PolicyResponse::Unavailable("down".into()),
    ] {
        let (step, _) = fixture.get_with_policy("/policy", &[], response);
        assert!(matches!(
            fixture.resume_after_audit(pending_audit(step), true),
            Step::Continue(_)
        ));
    }
    let Step::Continue(effects) = fixture.get("/plain", &[]) else {
        panic!("a rule that does not require it never waits")
    };
    assert!(effects.identity.is_none());
}

#[test]
fn the_changes_of_a_policy_survive_the_wait() {
    let fixture = Fixture::new(&config());
    let allowance = Allowance {
        remove: vec!["x-a".into()],
        ..Allowance::default()
    };
    let (step, _) = fixture.get_with_policy("/policy", &[], PolicyResponse::Allow(allowance));
    let Step::Continue(effects) = fixture.resume_after_audit(pending_audit(step), true) else {
        panic!()
    };
    assert_eq!(effects.policy.unwrap().remove, ["x-a"]);
}
