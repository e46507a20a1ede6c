//! A policy module: thresholds, deny lists and required fields for manifests and allocations.
//!
//! All rules that are for a request must be satisfied by its body. A refusal names the rule, never a value.

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
            DefaultAction::Deny => Err(deny(403, "no_rule", "Nothing of this kind may pass.")),
        };
    }
    let body = request.body.as_deref().unwrap_or_default();
    if body.is_empty() {
        return Err(deny(400, "body_missing", "The request needs a body of JSON."));
    }
    let document = json::parse(body).map_err(|_| {
        deny(
            400,
            "body_invalid",
            "The body is not JSON, or names a member twice.",
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

    /// The rules that are satisfied, or the refusal.
    fn answer(config: &Value, request: RequestBuilder) -> Result<String, Denial> {
        match Host::new()
            .config(config)
            .call(authorize, &request.build())
            .unwrap()
        {
            Decision::Allow(allowance) => {
                Ok(allowance.obligations.into_iter().map(|one| one.value).collect())
            }
            Decision::Deny(denial) => Err(denial),
        }
    }

    fn allocate() -> RequestBuilder {
        request().method("POST").path("/kernel/allocate")
    }

    #[test]
    fn every_rule_for_a_request_counts() {
        let sound = json!({"agentId": "a-1", "amount": 10, "pool": "spare"});
        let passed = answer(&kernel(), allocate().json(&sound)).unwrap();
        assert_eq!(passed, "known-agent,allocation");
        let other = request().method("POST").path("/kernel/sign").json(&sound);
        assert_eq!(answer(&kernel(), other).unwrap(), "known-agent");
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
            let denial = answer(&kernel(), allocate().json(&body)).unwrap_err();
            assert_eq!((denial.status, denial.code.as_str()), (403, code), "{body}");
            assert_eq!(denial.message, format!("The rule {rule} is not satisfied."));
        }
    }

    #[test]
    fn a_body_that_cannot_be_judged_is_refused() {
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
            let denial = answer(&kernel(), allocate().body(body)).unwrap_err();
            assert_eq!((denial.status, denial.code.as_str()), (400, code));
        }
        assert_eq!(answer(&kernel(), allocate()).unwrap_err().code, "body_missing");
    }

    #[test]
    fn what_no_rule_is_for_is_refused_unless_said_otherwise() {
        let mut config = kernel();
        assert_eq!(
            answer(&config, request().path("/other")).unwrap_err().code,
            "no_rule"
        );
        config["otherwise"] = json!("allow");
        assert!(answer(&config, request().path("/other")).unwrap().is_empty());
    }

    #[test]
    fn a_configuration_in_doubt_is_refused() {
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
