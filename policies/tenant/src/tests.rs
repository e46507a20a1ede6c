use postern_sdk::testing::{Host, RequestBuilder, request};
use postern_sdk::{Allowance, Header};
use serde_json::{Value, json};

use super::*;

fn sigil() -> Value {
    json!({
        "paths": ["/t/{tenant}", "/t/{tenant}/{rest..}"],
        "header": "x-tenant-id",
        "default_tenant": "public",
        "operators": ["Support"],
        "set_header": "x-tenant",
    })
}

fn run(config: &Value, request: RequestBuilder) -> Result<Allowance, String> {
    match Host::new().config(config).call(authorize, &request.build()) {
        Ok(Decision::Allow(allowance)) => Ok(allowance),
        Ok(Decision::Deny(denial)) => Err(format!("{} {}", denial.status, denial.code)),
        Err(error) => Err(error.to_string()),
    }
}

/// The tenant passed to the upstream, or the denial.
fn tenant(config: &Value, request: RequestBuilder) -> String {
    match run(config, request) {
        Ok(allowance) => {
            let value = &allowance.headers[0].value;
            String::from_utf8(value.clone()).unwrap()
        }
        Err(denial) => denial,
    }
}

#[test]
fn a_caller_can_access_only_its_tenant() {
    for (path, own, expected) in [
        ("/t/acme/sigils", Some("acme"), "acme"),
        ("/t/acme", Some("acme"), "acme"),
        ("/t/acme/sigils", Some("globex"), "403 tenant_mismatch"),
        ("/t/ACME/sigils", Some("acme"), "403 tenant_mismatch"),
        ("/t/acme/sigils", Some("acm"), "403 tenant_mismatch"),
        ("/t/acme/../globex", Some("acme"), "acme"),
        ("/t/public/sigils", None, "public"),
        ("/t/acme/sigils", None, "403 tenant_mismatch"),
        ("/t//sigils", Some("acme"), "403 tenant_missing"),
        ("/other", Some("acme"), "403 tenant_missing"),
        ("/t/caf%C3%A9/sigils", Some("café"), "400 tenant_invalid"),
        ("/t/a b", Some("a b"), "400 tenant_invalid"),
        ("/t/acme", Some(""), "403 tenant_unknown"),
        ("/t/acme", Some("ac\nme"), "403 tenant_unknown"),
    ] {
        let sent = request().path(path).subject("ann");
        let sent = match own {
            Some(own) => sent.tenant(own),
            None => sent,
        };
        assert_eq!(tenant(&sigil(), sent), expected, "{path} {own:?}");
    }
}

#[test]
fn a_tenant_must_be_named_once_and_validly() {
    let ann = || request().path("/t/acme/x").tenant("acme");
    for (headers, expected) in [
        (&[][..], "acme"),
        (&[&b"acme"[..]], "acme"),
        (&[b"globex"], "400 tenant_invalid"),
        (&[b"acme", b"acme"], "400 tenant_invalid"),
        (&[b"acme, globex"], "400 tenant_invalid"),
        (&[b""], "400 tenant_invalid"),
        (&[b"acm\xe9"], "400 tenant_invalid"),
        (&["acm\u{ff45}".as_bytes()], "400 tenant_invalid"),
        (&[&[b'a'; 5000]], "400 tenant_invalid"),
    ] {
        let sent = headers
            .iter()
            .fold(ann(), |request, value| request.header("x-tenant-id", *value));
        assert_eq!(tenant(&sigil(), sent), expected, "{headers:?}");
    }
    let by_header = request()
        .path("/sigils")
        .header("x-tenant-id", "acme")
        .tenant("acme");
    assert_eq!(tenant(&sigil(), by_header), "acme");
}

#[test]
fn operators_can_cross_and_an_obligation_records_it() {
    let crossing = request().path("/t/globex/x").tenant("acme").role("Support");
    let allowance = run(&sigil(), crossing).unwrap();
    assert_eq!(allowance.headers, [Header::new("x-tenant", "globex")]);
    assert_eq!(allowance.obligations[0].name, "tenant_crossed");
    assert_eq!(allowance.obligations[0].value, "globex");
    let home = run(&sigil(), request().path("/t/acme").tenant("acme").role("Support")).unwrap();
    assert_eq!(home.obligations, []);
    let similar = request().path("/t/globex/x").tenant("acme").role("support");
    assert_eq!(tenant(&sigil(), similar), "403 tenant_mismatch");
}

#[test]
fn a_claim_can_name_the_callers_tenant() {
    let config = json!({"paths": ["/t/{tenant}"], "claim": "/org/id", "default_tenant": "public", "set_header": "x-t"});
    for (claims, expected) in [
        (json!({"org": {"id": "acme"}}), "acme"),
        (json!({"org": {"id": "globex"}}), "403 tenant_mismatch"),
        (json!({"org": {"id": 7}}), "403 tenant_unknown"),
        (json!({"org": {"id": ["acme"]}}), "403 tenant_unknown"),
        (json!({"org": {"id": null}}), "403 tenant_mismatch"),
        (json!({"org": "acme"}), "403 tenant_mismatch"),
        (json!([]), "403 tenant_mismatch"),
    ] {
        // The identity's tenant is ignored.
        let sent = request().path("/t/acme").tenant("acme").claims(claims.clone());
        assert_eq!(tenant(&config, sent), expected, "{claims}");
    }
    let mut twice = request().path("/t/acme").tenant("acme").build();
    twice.identity.as_mut().unwrap().claims = r#"{"org": {"id": "acme"}, "org": {"id": "acme"}}"#.into();
    let result = Host::new().config(&config).call(authorize, &twice);
    assert!(matches!(result, Ok(Decision::Deny(denial)) if denial.code == "tenant_unknown"));
}

#[test]
fn naming_a_tenant_can_be_optional() {
    let mut config = sigil();
    config["required"] = json!(false);
    assert_eq!(tenant(&config, request().path("/sigils").tenant("acme")), "acme");
    assert_eq!(tenant(&config, request().path("/sigils")), "public");
    config.as_object_mut().unwrap().remove("default_tenant");
    assert_eq!(tenant(&config, request().path("/sigils")), "403 tenant_unknown");
    assert_eq!(tenant(&config, request().path("/t/acme")), "403 tenant_unknown");
    let only_header = json!({"set_header": "x-tenant", "default_tenant": "public"});
    assert_eq!(
        tenant(&only_header, request().path("/any").tenant("acme")),
        "acme"
    );
}

#[test]
fn an_invalid_configuration_is_rejected() {
    for (config, expected) in [
        (json!({}), "at least one of `paths`, `header` and `set_header`"),
        (
            json!({"paths": ["/t/{id}"]}),
            "paths[0]: the template must contain `{tenant}`",
        ),
        (
            json!({"paths": ["t"]}),
            "paths[0]: a path template must begin with `/`",
        ),
        (
            json!({"header": "x", "default_tenant": "a b"}),
            "default_tenant: a tenant name must be",
        ),
        (
            json!({"header": "x", "claim": "org"}),
            "claim: a JSON pointer must begin",
        ),
        (json!({"header": "x", "operator": "a"}), "operator: unknown field"),
    ] {
        let error = run(&config, request()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
