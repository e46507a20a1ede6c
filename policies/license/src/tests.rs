use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use ed25519_compact::{KeyPair, Seed};
use postern_sdk::testing::{Host, RequestBuilder, request};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_772_323_200;

fn vendor() -> KeyPair {
    KeyPair::from_seed(Seed::new([9; 32]))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

fn sign(header: &str, claims: &str, by: &KeyPair) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = by.sk.sign(&signed, None);
    format!("{signed}.{}", encode(*signature))
}

fn license(claims: &Value) -> String {
    sign(r#"{"alg":"EdDSA"}"#, &claims.to_string(), &vendor())
}

fn claims() -> Value {
    json!({"sub": "acme", "exp": NOW + 3600, "nbf": NOW - 3600, "features": ["agents"], "seats": 25})
}

fn config(license: &str) -> Value {
    json!({
        "public_key": encode(*vendor().pk),
        "license": license,
        "leeway_seconds": 30,
        "features": [
            {"path": "/v1/agents/{rest..}", "feature": "agents"},
            {"methods": ["POST"], "path": "/v1/deploy", "feature": "deploy"},
        ],
    })
}

fn evaluate(config: &Value, request: RequestBuilder) -> Result<Allowance, String> {
    match Host::new().config(config).call(authorize, &request.build()) {
        Ok(Decision::Allow(allowance)) => Ok(allowance),
        Ok(Decision::Deny(denial)) => Err(format!("{} {}", denial.status, denial.code)),
        Err(error) => Err(error.to_string()),
    }
}

/// Status and code of the denial; empty if the licence is accepted.
fn denial_code(token: &str) -> String {
    let sent = request().path("/v1/agents/7").time(NOW * 1000);
    evaluate(&config(token), sent).err().unwrap_or_default()
}

#[test]
fn a_valid_licence_allows_and_adds_obligations() {
    let allowance = evaluate(
        &config(&license(&claims())),
        request().path("/v1/agents/7").time(NOW * 1000),
    )
    .unwrap();
    let named: Vec<_> = allowance
        .obligations
        .iter()
        .map(|o| (o.name.as_str(), o.value.as_str()))
        .collect();
    assert_eq!(named, [("license_subject", "acme"), ("license_seats", "25")]);
    assert_eq!(allowance.cache, None);
}

#[test]
fn claims_are_checked() {
    for (claim, value, expected) in [
        ("exp", json!(NOW), ""),
        ("exp", json!(NOW - 29), ""),
        ("exp", json!(NOW - 30), "403 license_expired"),
        ("exp", json!(NOW as f64 - 29.5), ""),
        ("exp", json!(-1), "403 license_expired"),
        ("exp", json!(1e300), ""),
        ("exp", json!((NOW + 1).to_string()), "403 license_invalid"),
        ("exp", json!(null), "403 license_invalid"),
        ("exp", json!({"at": NOW + 1}), "403 license_invalid"),
        ("nbf", json!(NOW + 30), ""),
        ("nbf", json!(NOW + 31), "403 license_not_yet_valid"),
        ("nbf", json!(1e300), "403 license_not_yet_valid"),
        ("nbf", json!("tomorrow"), "403 license_invalid"),
        ("sub", json!(""), "403 license_invalid"),
        ("sub", json!(7), "403 license_invalid"),
        ("features", json!([]), "403 feature_missing"),
        ("features", json!(["Agents", "agents "]), "403 feature_missing"),
        ("features", json!("agents"), "403 license_invalid"),
        ("seats", json!(-1), "403 license_invalid"),
        ("seats", json!(1e40), "403 license_invalid"),
        ("other", json!("ignored"), ""),
    ] {
        let mut changed = claims();
        changed[claim] = value.clone();
        assert_eq!(denial_code(&license(&changed)), expected, "{claim} {value}");
    }
}

#[test]
fn only_the_vendors_signature_is_accepted() {
    let text = claims().to_string();
    let good = license(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_key = KeyPair::from_seed(Seed::new([8; 32]));
    let eddsa = r#"{"alg":"EdDSA"}"#;
    for (token, expected) in [
        (good.clone(), ""),
        (format!("  {good}\n"), ""),
        (
            sign(r#"{"alg":"EdDSA","typ":"JWT","kid":"1"}"#, &text, &vendor()),
            "",
        ),
        (String::new(), "403 license_missing"),
        (" \n".into(), "403 license_missing"),
        ("?".into(), "403 license_invalid"),
        ("..".into(), "403 license_invalid"),
        (signed.into(), "403 license_invalid"),
        (format!("{signed}."), "403 license_invalid"),
        (format!("{good}.{signature}"), "403 license_invalid"),
        (format!("{good}="), "403 license_invalid"),
        (good.replace('.', ".."), "403 license_invalid"),
        (sign(eddsa, &text, &other_key), "403 license_invalid"),
        (
            format!(
                "{}.{}.{signature}",
                encode(eddsa),
                encode(text.replace("acme", "evil"))
            ),
            "403 license_invalid",
        ),
        (sign(r#"{"alg":"none"}"#, &text, &vendor()), "403 license_invalid"),
        (
            sign(r#"{"alg":"HS256"}"#, &text, &vendor()),
            "403 license_invalid",
        ),
        (
            sign(r#"{"alg":"eddsa"}"#, &text, &vendor()),
            "403 license_invalid",
        ),
        (
            sign(r#"{"alg":"none","alg":"EdDSA"}"#, &text, &vendor()),
            "403 license_invalid",
        ),
        (
            sign(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, &text, &vendor()),
            "403 license_invalid",
        ),
        (sign("{}", &text, &vendor()), "403 license_invalid"),
        (sign(eddsa, "[]", &vendor()), "403 license_invalid"),
        (
            sign(eddsa, r#"{"sub":"a","exp":1,"exp":99999999999}"#, &vendor()),
            "403 license_invalid",
        ),
        (
            sign(
                eddsa,
                &format!(r#"{{"sub":"a","exp":99999999999,"x":"{}"}}"#, "x".repeat(9000)),
                &vendor(),
            ),
            "403 license_invalid",
        ),
    ] {
        assert_eq!(denial_code(&token), expected, "{token}");
    }
}

#[test]
fn features_are_required_for_matching_requests() {
    let config = config(&license(&claims()));
    for (method, path, expected) in [
        ("GET", "/v1/agents/7", ""),
        ("POST", "/v1/deploy", "403 feature_missing"),
        ("GET", "/v1/deploy", ""),
        ("GET", "/other", ""),
    ] {
        let sent = request().method(method).path(path).time(NOW * 1000);
        assert_eq!(
            evaluate(&config, sent).err().unwrap_or_default(),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn a_client_can_send_its_licence() {
    let mut config = config("");
    config.as_object_mut().unwrap().remove("license");
    config["header"] = json!("X-License");
    let good = license(&claims());
    let with = |values: &[&[u8]]| {
        let sent = values.iter().fold(request().time(NOW * 1000), |request, value| {
            request.header("x-license", *value)
        });
        evaluate(&config, sent).err().unwrap_or_default()
    };
    assert_eq!(with(&[good.as_bytes()]), "");
    assert_eq!(with(&[]), "403 license_missing");
    assert_eq!(with(&[b""]), "403 license_missing");
    assert_eq!(with(&[b"\xff\xfe"]), "403 license_invalid");
    assert_eq!(with(&[good.as_bytes(), good.as_bytes()]), "400 header_repeated");
}

#[test]
fn a_cache_grant_ends_with_the_licence() {
    let mut config = config(&license(&claims()));
    config["cache_ms"] = json!(60_000);
    let ttl = |time: u64| {
        let allowance = evaluate(&config, request().time(time)).unwrap();
        let grant = allowance.cache.unwrap();
        assert_eq!(grant.parts, [Part::Method, Part::Path]);
        grant.ttl_ms
    };
    assert_eq!(ttl(NOW * 1000), 60_000);
    assert_eq!(ttl((NOW + 3620) * 1000 + 500), 9_500);
    let mut forever = config.clone();
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    forever["license"] = json!(license(&endless));
    assert_eq!(
        evaluate(&forever, request().time(NOW * 1000)).unwrap_err(),
        "403 license_invalid"
    );
    forever["require_expiry"] = json!(false);
    let allowance = evaluate(&forever, request().time(NOW * 1000)).unwrap();
    assert_eq!(allowance.cache.unwrap().ttl_ms, 60_000);
}

#[test]
fn configuration_errors_do_not_contain_the_licence() {
    let s3cret = license(&claims());
    let base = config(&s3cret);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = base.clone();
        change(&mut config);
        let refused = evaluate(&config, request().time(NOW * 1000)).unwrap_err();
        assert!(
            refused.contains("Misconfigured") && !refused.contains(&s3cret),
            "{refused}"
        );
        refused
    };
    assert!(with(&|c| c["header"] = json!("x-license")).contains("either `license` or `header`"));
    assert!(with(&|c| c["license"] = json!(null)).contains("either `license` or `header`"));
    assert!(with(&|c| c["public_key"] = json!(s3cret)).contains("public_key: an Ed25519 public key must be"));
    assert!(with(&|c| c["license"] = json!([s3cret])).contains("license: expected a string"));
    assert!(with(&|c| c["leeway_seconds"] = json!(s3cret)).contains("leeway_seconds: expected u32"));
}

proptest! {
    #[test]
    fn no_token_panics(token in "[a-zA-Z0-9_.=-]{1,80}|\\PC{1,40}") {
        prop_assume!(!token.trim().is_empty());
        prop_assert_eq!(denial_code(&token), "403 license_invalid");
    }
}
