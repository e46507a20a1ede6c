//! A policy module: limits, lists and required fields for JSON bodies.
//!
//! The body must satisfy every rule that applies to the request. A denial names the rule, but never a value.

mod check;
mod config;
mod pointer;

use postern_sdk::{Decision, Denial, Error, Request, deny, json};

use check::Violation;
use config::{Config, DefaultAction};

postern_sdk::policy!(authorize);

fn authorize(request: &Request) -> Result<Decision, Error> {
    let config: Config = postern_sdk::config()?;
    Ok(decide(&config, request).unwrap_or_else(Decision::from))
}

fn decide(config: &Config, request: &Request) -> Result<Decision, Denial> {
    let rules: Vec<_> = config
        .rules
        .iter()
        .filter(|rule| rule.applies_to(request))
        .collect();
    if rules.is_empty() {
        return match config.otherwise {
            DefaultAction::Allow => Ok(Decision::allow().into()),
            DefaultAction::Deny => Err(deny(403, "no_rule", "No rule applies to this request.")),
        };
    }
    let body = request.body.as_deref().unwrap_or_default();
    if body.is_empty() {
        return Err(deny(400, "body_missing", "The request needs a JSON body."));
    }
    let document = json::parse(body).map_err(|_| {
        deny(
            400,
            "body_invalid",
            "The body is not JSON, or repeats a member of an object.",
        )
    })?;
    let mut satisfied = Vec::with_capacity(rules.len());
    for rule in rules {
        check::check(rule, &document).map_err(|violation| denial(violation, &rule.name))?;
        satisfied.push(rule.name.as_str());
    }
    Ok(Decision::allow()
        .obligation("sentinel", satisfied.join(","))
        .into())
}

fn denial(violation: Violation, rule: &str) -> Denial {
    let code = match violation {
        Violation::Missing => "field_missing",
        Violation::WrongType => "field_invalid",
        Violation::OutOfRange => "limit_exceeded",
        Violation::Denied => "value_denied",
        Violation::NotAllowed => "value_not_allowed",
    };
    deny(403, code, format!("The rule {rule} is not satisfied."))
}

#[cfg(test)]
mod tests {
    use postern_sdk::testing::{Host, RequestBuilder, request};
    use serde_json::{Value, json};

    use super::*;

    fn kernel() -> Value {
        json!({"rules": [
            {"name": "known-agent", "path": "/kernel/{kind}", "require": ["/agentId"]},
            {"name": "allocation", "methods": ["POST"], "path": "/kernel/allocate",
             "limits": [{"at": "/amount", "min": 1, "max": 1000}],
             "deny": [{"at": "/pool", "values": ["reserve"]}]},
        ]})
    }

    /// The satisfied rules, or the denial.
    fn evaluate(config: &Value, request: RequestBuilder) -> Result<String, Denial> {
        match Host::new()
            .config(config)
            .call(authorize, &request.build())
            .unwrap()
        {
            Decision::Allow(allowance) => Ok(allowance
                .obligations
                .into_iter()
                .map(|obligation| obligation.value)
                .collect()),
            Decision::Deny(denial) => Err(denial),
        }
    }

    fn allocate() -> RequestBuilder {
        request().method("POST").path("/kernel/allocate")
    }

    #[test]
    fn every_applicable_rule_must_be_satisfied() {
        let body = json!({"agentId": "a-1", "amount": 10, "pool": "spare"});
        let passed = evaluate(&kernel(), allocate().json(&body)).unwrap();
        assert_eq!(passed, "known-agent,allocation");
        let other = request().method("POST").path("/kernel/sign").json(&body);
        assert_eq!(evaluate(&kernel(), other).unwrap(), "known-agent");
        for (body, code, rule) in [
            (json!({"amount": 10}), "field_missing", "known-agent"),
            (
                json!({"agentId": "a-1", "amount": 54321}),
                "limit_exceeded",
                "allocation",
            ),
            (
                json!({"agentId": "a-1", "amount": "10"}),
                "field_invalid",
                "allocation",
            ),
            (
                json!({"agentId": "a-1", "amount": 10, "pool": "reserve"}),
                "value_denied",
                "allocation",
            ),
        ] {
            let denial = evaluate(&kernel(), allocate().json(&body)).unwrap_err();
            assert_eq!((denial.status, denial.code.as_str()), (403, code), "{body}");
            assert_eq!(denial.message, format!("The rule {rule} is not satisfied."));
        }
    }

    #[test]
    fn missing_and_invalid_bodies_are_denied() {
        let deep = "[".repeat(100_000);
        for (body, code) in [
            (&b""[..], "body_missing"),
            (b"agentId=a-1", "body_invalid"),
            (
                br#"{"agentId": "a-1", "amount": 10, "amount": 100000}"#,
                "body_invalid",
            ),
            (b"{\"agentId\": \"a\xff\"}", "body_invalid"),
            (br#"{"agentId": "a-1", "amount": 1e999}"#, "body_invalid"),
            (b"\x1f\x8b\x08\x00", "body_invalid"),
            (deep.as_bytes(), "body_invalid"),
        ] {
            let denial = evaluate(&kernel(), allocate().body(body)).unwrap_err();
            assert_eq!((denial.status, denial.code.as_str()), (400, code));
        }
        assert_eq!(evaluate(&kernel(), allocate()).unwrap_err().code, "body_missing");
    }

    #[test]
    fn unmatched_requests_are_denied_by_default() {
        let mut config = kernel();
        assert_eq!(
            evaluate(&config, request().path("/other")).unwrap_err().code,
            "no_rule"
        );
        config["otherwise"] = json!("allow");
        assert!(evaluate(&config, request().path("/other")).unwrap().is_empty());
    }

    #[test]
    fn an_invalid_configuration_is_rejected() {
        for (config, expected) in [
            (json!({}), "missing field `rules`"),
            (
                json!({"rules": [{"path": "/"}]}),
                "rules[0]: missing field `name`",
            ),
            (
                json!({"rules": [{"name": "r", "path": "/", "limits": [{"at": "n", "max": 1}]}]}),
                "rules[0].limits[0].at: a JSON pointer must begin with `/`",
            ),
            (
                json!({"rules": [{"name": "r", "path": "/", "limits": [{"at": "/n", "max": "1"}]}]}),
                "rules[0].limits[0].max: expected a JSON number",
            ),
            (
                json!({"rules": [], "otherwise": "deny "}),
                "otherwise: expected `allow` or `deny`",
            ),
        ] {
            let error = Host::new()
                .config(&config)
                .call(authorize, &request().build())
                .unwrap_err();
            assert_eq!(error, Error::Misconfigured(expected.into()));
        }
    }
}
