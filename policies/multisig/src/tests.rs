use ct_codecs::{Base64, Base64UrlSafeNoPadding, Encoder};
use ed25519_compact::{KeyPair, Seed};
use postern_sdk::testing::{Host, RequestBuilder, request};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const IDS: [&str; 5] = ["ann", "bob", "cat", "dan", "eve"];
const NOW: u64 = 1_772_323_200;
const LATER: u64 = NOW + 600;

fn key(id: &str) -> KeyPair {
    let mut seed = [7; 32];
    seed[..id.len()].copy_from_slice(id.as_bytes());
    KeyPair::from_seed(Seed::new(seed))
}

fn config() -> Value {
    let keys: Vec<_> = IDS
        .iter()
        .map(|id| json!({"id": id, "public_key": Base64UrlSafeNoPadding::encode_to_string(*key(id).pk).unwrap()}))
        .collect();
    json!({"required": 3, "keys": keys, "audience": "kernel"})
}

/// An approval, built independently of the implementation.
fn sign(id: &str, statement: &str) -> String {
    let signature = key(id).sk.sign(statement, None);
    format!("{id}:{}", Base64::encode_to_string(*signature).unwrap())
}

fn digest(canonical: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(canonical)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const CANONICAL: &str = r#"{"event":"upgrade.applied","version":1.5}"#;

fn statement() -> String {
    format!(
        "postern-approval-v1\nkernel\nPOST\n/kernel/upgrade\n{LATER}\n{}",
        digest(CANONICAL)
    )
}

fn upgrade() -> RequestBuilder {
    request()
        .method("POST")
        .path("/kernel/upgrade")
        .time(NOW * 1000)
        .body("{\"version\": 1.50,\n \"event\": \"upgrade\\u002eapplied\"}")
        .header("x-approval-expires", LATER.to_string())
}

fn approved(ids: &[&str]) -> RequestBuilder {
    ids.iter().fold(upgrade(), |request, id| {
        request.header("x-approval", sign(id, &statement()))
    })
}

fn evaluate_with(config: &Value, request: RequestBuilder) -> String {
    match Host::new().config(config).call(authorize, &request.build()) {
        Ok(Decision::Allow(allowance)) => match allowance.obligations.first() {
            Some(obligation) => format!("{} {}", obligation.name, obligation.value),
            None => "allowed".into(),
        },
        Ok(Decision::Deny(denial)) => format!("{} {}", denial.status, denial.code),
        Err(error) => error.to_string(),
    }
}

fn evaluate(request: RequestBuilder) -> String {
    evaluate_with(&config(), request)
}

const MISSING: &str = "403 quorum_missing";

#[test]
fn three_of_five() {
    assert_eq!(
        evaluate(approved(&["ann", "bob", "cat"])),
        "approved_by ann,bob,cat"
    );
    assert_eq!(
        evaluate(approved(&["eve", "ann", "dan", "bob"])),
        "approved_by eve,ann,dan"
    );
    assert_eq!(evaluate(approved(&[])), MISSING);
    assert_eq!(evaluate(approved(&["ann", "bob"])), MISSING);
    assert_eq!(evaluate(approved(&["ann", "bob", "ann", "bob"])), MISSING);
    assert_eq!(evaluate(approved(&["ann", "bob", "mallory"])), MISSING);
    assert_eq!(
        evaluate(approved(&["mallory", "ann", "bob", "cat"])),
        "approved_by ann,bob,cat"
    );
}

#[test]
fn a_proxy_may_join_the_headers() {
    let all = ["ann", "bob", "cat"].map(|id| sign(id, &statement())).join(" , ");
    assert_eq!(
        evaluate(upgrade().header("x-approval", all)),
        "approved_by ann,bob,cat"
    );
}

#[test]
fn invalid_approvals_are_ignored() {
    let good = sign("cat", &statement());
    let text = statement();
    for bad in [
        &b"cat"[..],
        b"cat:",
        b":",
        b"",
        b",,,",
        b"cat:\xff\xfe",
        b"CAT:",
        good.replace("cat:", "Cat:").as_bytes(),
        good.replace("cat:", "dan:").as_bytes(),
        good.trim_end_matches('=').as_bytes(),
        format!("{good}=").as_bytes(),
        sign("cat", &text.to_uppercase()).as_bytes(),
        sign("cat", &format!("{text}\n")).as_bytes(),
        sign("cat", &text.replace("kernel\n", "other\n")).as_bytes(),
        sign("cat", &text.replace("POST", "PUT")).as_bytes(),
        sign("cat", &text.replace("/upgrade", "/upgrade?force=1")).as_bytes(),
        sign("cat", &text.replace(&LATER.to_string(), &(LATER + 1).to_string())).as_bytes(),
        sign("cat", &text.replace(&digest(CANONICAL), &digest("{}"))).as_bytes(),
    ] {
        let request = approved(&["ann", "bob"]).header("x-approval", bad);
        assert_eq!(evaluate(request), MISSING, "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn an_approval_is_bound_to_one_request() {
    let all = &["ann", "bob", "cat"];
    assert_eq!(evaluate(approved(all).method("PUT")), MISSING);
    assert_eq!(evaluate(approved(all).path("/kernel/upgrade/")), MISSING);
    assert_eq!(evaluate(approved(all).query("")), MISSING);
    assert_eq!(
        evaluate(approved(all).body(CANONICAL.replace("1.5", "1.6"))),
        MISSING
    );
    assert_eq!(evaluate(approved(all).body(CANONICAL)), "approved_by ann,bob,cat");
    let mut other = config();
    other["audience"] = json!("staging");
    assert_eq!(evaluate_with(&other, approved(all)), MISSING);
}

#[test]
fn approvals_expire() {
    let all = &["ann", "bob", "cat"];
    assert_eq!(
        evaluate(approved(all).time(LATER * 1000 - 1)),
        "approved_by ann,bob,cat"
    );
    assert_eq!(evaluate(approved(all).time(LATER * 1000)), "403 approval_expired");
    assert_eq!(
        evaluate(approved(all).time((LATER - 3601) * 1000)),
        "403 approval_too_long"
    );
    let twice = approved(all).header("x-approval-expires", LATER.to_string());
    assert_eq!(evaluate(twice), "400 approval_invalid");
    for expires in [
        "",
        "soon",
        "-1",
        "+1",
        "1e9",
        "1772323800.5",
        " 1772323800",
        "9999999999999",
        "١٢",
    ] {
        let mut request = approved(all).build();
        request.headers.retain(|header| header.name == "x-approval");
        let with = request
            .headers
            .into_iter()
            .fold(upgrade(), |r, h| r.header(h.name, h.value));
        let mut with = with.build();
        with.headers[0].value = expires.into();
        let host = Host::new().config(config());
        let Ok(Decision::Deny(denial)) = host.call(authorize, &with) else {
            panic!("{expires}")
        };
        assert_eq!(
            (denial.status, denial.code.as_str()),
            (400, "approval_invalid"),
            "{expires}"
        );
    }
}

#[test]
fn the_number_of_approvals_is_limited() {
    let bad = sign("ann", "another text");
    let many = |count| (0..count).fold(upgrade(), |request, _| request.header("x-approval", bad.clone()));
    assert_eq!(evaluate(many(approval::MAX_APPROVALS)), MISSING);
    assert_eq!(
        evaluate(many(approval::MAX_APPROVALS + 1)),
        "400 approvals_too_many"
    );
    assert_eq!(
        evaluate(upgrade().header("x-approval", ",".repeat(60_000))),
        "400 approvals_too_many"
    );
}

#[test]
fn an_ambiguous_body_is_denied_even_if_approved() {
    for (body, code) in [
        ("", "400 body_missing"),
        ("event=upgrade.applied", "400 body_invalid"),
        (
            r#"{"event": "upgrade.applied", "version": 1.5, "event": "upgrade.applied"}"#,
            "400 body_invalid",
        ),
        (
            r#"{"event": "upgrade.applied", "version": 9007199254740993}"#,
            "400 body_invalid",
        ),
        (
            r#"{"event": "upgrade.applied", "version": 1.50000000000000000001}"#,
            "400 body_invalid",
        ),
        (r#"{"event": "\ud800"}"#, "400 body_invalid"),
    ] {
        assert_eq!(
            evaluate(approved(&["ann", "bob", "cat"]).body(body)),
            code,
            "{body}"
        );
    }
    let mut none = approved(&["ann", "bob", "cat"]).build();
    none.body = None;
    let result = Host::new().config(config()).call(authorize, &none);
    assert!(matches!(result, Ok(Decision::Deny(denial)) if denial.code == "body_missing"));
}

#[test]
fn a_condition_limits_which_bodies_need_approvals() {
    let mut config = config();
    config["when"] = json!({"at": "/event", "values": ["upgrade.applied"]});
    assert_eq!(evaluate_with(&config, upgrade()), MISSING);
    assert_eq!(
        evaluate_with(&config, approved(&["ann", "bob", "cat"])),
        "approved_by ann,bob,cat"
    );
    assert_eq!(
        evaluate_with(&config, upgrade().json(&json!({"event": "upgrade.planned"}))),
        "allowed"
    );
    for body in [
        json!({}),
        json!({"event": ["upgrade.applied"]}),
        json!({"event": null}),
        json!("upgrade.applied"),
    ] {
        assert_eq!(
            evaluate_with(&config, upgrade().json(&body)),
            "400 body_invalid",
            "{body}"
        );
    }
}

#[test]
fn a_key_may_be_pem() {
    let mut pem = config();
    pem["keys"][0]["public_key"] = json!(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
    );
    // The key of RFC 8410, section 10.1, instead of Ann's.
    assert_eq!(evaluate_with(&pem, approved(&["ann", "bob", "cat"])), MISSING);
    assert_eq!(
        evaluate_with(&pem, approved(&["dan", "bob", "cat"])),
        "approved_by dan,bob,cat"
    );
}

#[test]
fn an_invalid_configuration_is_rejected() {
    let with = |path: &str, value: Value| {
        let mut config = config();
        *config.pointer_mut(path).unwrap() = value;
        evaluate_with(&config, approved(&["ann", "bob", "cat"]))
    };
    for (path, value, expected) in [
        ("/required", json!(0), "`required` must be from 1"),
        ("/required", json!(6), "`required` must be from 1"),
        ("/required", json!(-1), "required: expected usize"),
        ("/keys", json!([]), "`required` must be from 1"),
        ("/keys/1", config()["keys"][0].clone(), "two `keys`"),
        ("/keys/1/id", json!("ann"), "two `keys`"),
        (
            "/keys/1/public_key",
            config()["keys"][0]["public_key"].clone(),
            "two `keys`",
        ),
        ("/keys/1/id", json!("a:b"), "the `id` of a key"),
        ("/keys/1/id", json!(""), "the `id` of a key"),
        (
            "/keys/1/public_key",
            json!("c2hvcnQ"),
            "keys[1].public_key: an Ed25519 public key must be",
        ),
        ("/audience", json!("a\nb"), "`audience`"),
    ] {
        let refused = with(path, value);
        assert!(
            refused.contains("Misconfigured") && refused.contains(expected),
            "{refused}"
        );
    }
}

proptest! {
    #[test]
    fn no_header_panics(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4)) {
        let request = values.into_iter().fold(upgrade(), |request, value| request.header("x-approval", value));
        let result = evaluate(request);
        prop_assert_eq!(result, MISSING);
    }
}
