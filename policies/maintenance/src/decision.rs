//! The decision, which knows nothing of how it is asked.

use std::fmt;

use serde_json::{Value, json};

use crate::config::{Config, Plans};
use crate::window::Window;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    /// The entry's configuration, JSON.
    pub config: &'a str,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub time: u64,
    /// The request's method.
    pub method: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// The caller's roles, with commas between them.
    pub roles: &'a str,
    /// The claims of the caller's token, JSON.
    pub claims: &'a str,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request may pass, and the upstream sees this header.
    Allow(Option<(String, String)>),
    /// It may not.
    Deny {
        /// The status of the response.
        status: u16,
        /// For how many seconds at least it will not.
        retry_after: Option<u64>,
        /// A problem document (RFC 9457).
        problem: String,
    },
}

/// The entry's configuration makes no sense. It says where, and no value.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration makes no sense, {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Decides.
///
/// # Errors
/// [`ConfigError`] if the configuration cannot be read.
pub fn decide(input: &PolicyInput<'_>) -> Result<Decision, ConfigError> {
    // serde's own message would quote what stands there.
    let config: Config = serde_json::from_str(input.config)
        .map_err(|error| ConfigError(format!("line {}, column {}", error.line(), error.column())))?;
    if let Some(denial) = maintenance(&config, input) {
        return Ok(denial);
    }
    Ok(config
        .plans
        .as_ref()
        .map_or(Decision::Allow(None), |plans| plan(plans, input)))
}

fn maintenance(config: &Config, input: &PolicyInput<'_>) -> Option<Decision> {
    let open = |window: &Window| window.remaining(input.time);
    // Of windows that overlap, the last to close.
    let window = config
        .windows
        .iter()
        .filter(|window| open(window).is_some())
        .max_by_key(|window| open(window))?;
    let exempt = config.exempt_methods.iter().any(|method| method == input.method)
        || input
            .roles
            .split(',')
            .any(|role| config.exempt_roles.iter().any(|exempt| exempt == role.trim()));
    if exempt {
        return None;
    }
    let message = window
        .message
        .as_deref()
        .unwrap_or("The service is under maintenance.");
    Some(Decision::Deny {
        status: 503,
        retry_after: open(window).map(|remaining| remaining.div_ceil(1000)),
        problem: problem("Service Unavailable", 503, "maintenance", message),
    })
}

fn plan(plans: &Plans, input: &PolicyInput<'_>) -> Decision {
    let deny = |code, message| Decision::Deny {
        status: 403,
        retry_after: None,
        problem: problem("Forbidden", 403, code, message),
    };
    let claims: Value = match input.claims {
        "" => json!({}),
        text => match serde_json::from_str(text) {
            Ok(claims) => claims,
            Err(_) => return deny("plan_invalid", "The caller's plan cannot be read."),
        },
    };
    let plan = match claims.pointer(&plans.claim) {
        Some(Value::String(plan)) => Some(plan),
        None | Some(Value::Null) => plans.default.as_ref(),
        // Whatever the issuer means by it, it does not mean the default.
        Some(_) => return deny("plan_invalid", "The caller's plan cannot be read."),
    };
    let not_included = plans
        .gates
        .iter()
        .filter(|gate| gate.applies_to(input.method, input.path))
        .any(|gate| plan.is_none_or(|plan| !gate.plans.contains(plan)));
    if not_included {
        return deny("plan_missing", "The caller's plan does not include this.");
    }
    if plan.is_some_and(|plan| plan.chars().any(char::is_control)) {
        // No value of a header.
        return deny("plan_invalid", "The caller's plan cannot be read.");
    }
    Decision::Allow(plans.set_header.clone().zip(plan.cloned()))
}

fn problem(title: &str, status: u16, code: &str, detail: &str) -> String {
    json!({"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail})
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Sunday, in the first of its hours.
    const SUNDAY: u64 = 1_772_323_200_000;

    fn config() -> String {
        json!({
            "windows": [
                {"weekly": {"day": "sunday", "at": "00:00", "minutes": 30}, "message": "Every week."},
                {"from": "2026-03-01T00:10:00Z", "until": "2026-03-01T01:00:00Z"},
            ],
            "exempt_roles": ["SuperAdmin"],
            "exempt_methods": ["GET"],
            "plans": {
                "claim": "/plan",
                "default": "free",
                "gates": [{"prefix": "/v1/export", "methods": ["POST"], "plans": ["pro", "team"]}],
                "set_header": "X-Plan",
            },
        })
        .to_string()
    }

    fn evaluate(config: &str, change: impl FnOnce(&mut PolicyInput<'_>)) -> Result<Decision, ConfigError> {
        let mut input = PolicyInput {
            config,
            time: SUNDAY + 3_600_000,
            method: "POST",
            path: "/v1/orders",
            roles: "",
            claims: "",
        };
        change(&mut input);
        decide(&input)
    }

    /// Status, code and `Retry-After`, or the plan that the upstream is told.
    fn summary(change: impl FnOnce(&mut PolicyInput<'_>)) -> String {
        match evaluate(&config(), change).unwrap() {
            Decision::Allow(header) => header
                .map(|(name, plan)| format!("{name}: {plan}"))
                .unwrap_or_default(),
            Decision::Deny {
                status,
                retry_after,
                problem,
            } => {
                let problem: Value = serde_json::from_str(&problem).unwrap();
                assert_eq!(problem["status"], status);
                format!("{status} {} {retry_after:?}", problem["code"].as_str().unwrap())
            }
        }
    }

    #[test]
    fn a_window_closes_the_service() {
        assert_eq!(summary(|input| input.time = SUNDAY), "503 maintenance Some(1800)");
        assert_eq!(
            summary(|input| input.time = SUNDAY + 500),
            "503 maintenance Some(1800)"
        );
        assert_eq!(
            summary(|input| input.time = SUNDAY + 600_000),
            "503 maintenance Some(3000)"
        );
        assert_eq!(
            summary(|input| input.time = SUNDAY + 3_599_999),
            "503 maintenance Some(1)"
        );
        assert_eq!(summary(|input| input.time = SUNDAY + 3_600_000), "x-plan: free");
        assert_eq!(summary(|input| input.time = SUNDAY - 1), "x-plan: free");
    }

    #[test]
    fn some_may_come_in() {
        let during = |roles, method| {
            summary(|input| {
                input.time = SUNDAY;
                input.roles = roles;
                input.method = method;
            })
        };
        let closed = "503 maintenance Some(1800)";
        assert_eq!(during("Auditor, SuperAdmin", "POST"), "x-plan: free");
        assert_eq!(during("superadmin,SuperAdmins", "POST"), closed);
        assert_eq!(during("", "GET"), "x-plan: free");
        assert_eq!(during("", "get"), closed);
    }

    #[test]
    fn plans_include_paths() {
        for (path, claims, expected) in [
            ("/v1/orders", "", "x-plan: free"),
            ("/v1/orders", r#"{"plan": "pro"}"#, "x-plan: pro"),
            ("/v1/export", r#"{"plan": "pro"}"#, "x-plan: pro"),
            ("/v1/export/7", r#"{"plan": "free"}"#, "403 plan_missing None"),
            ("/v1/exports", r#"{"plan": "free"}"#, "x-plan: free"),
            ("/v1/export", "", "403 plan_missing None"),
            ("/v1/export", "{}", "403 plan_missing None"),
            ("/v1/export", r#"{"plan": null}"#, "403 plan_missing None"),
            ("/v1/export", r#"{"plan": "PRO"}"#, "403 plan_missing None"),
            ("/v1/orders", r#"{"plan": ["pro"]}"#, "403 plan_invalid None"),
            ("/v1/orders", r#"{"plan": 9e99}"#, "403 plan_invalid None"),
            ("/v1/orders", r#"{"plan": "a\r\nx: y"}"#, "403 plan_invalid None"),
            ("/v1/orders", "no JSON", "403 plan_invalid None"),
        ] {
            let found = summary(|input| {
                input.path = path;
                input.claims = claims;
            });
            assert_eq!(found, expected, "{path} {claims}");
        }
    }

    #[test]
    fn the_operators_words_reach_people() {
        let Ok(Decision::Deny { problem, .. }) = evaluate(&config(), |input| input.time = SUNDAY) else {
            panic!("not refused");
        };
        assert_eq!(
            problem,
            r#"{"code":"maintenance","detail":"Every week.","status":503,"title":"Service Unavailable","type":"about:blank"}"#
        );
        assert_eq!(evaluate("{}", |_| ()), Ok(Decision::Allow(None)));
    }

    #[test]
    fn a_configuration_in_doubt_is_an_error_that_shows_nothing_of_it() {
        for config in [
            "",
            "s3cret",
            r#"{"window": []}"#,
            r#"{"windows": "s3cret"}"#,
            r#"{"windows": [{"from": "s3cret", "until": "s3cret"}]}"#,
            r#"{"plans": {}}"#,
            r#"{"plans": {"claim": "plan"}}"#,
            r#"{"plans": {"claim": "/plan", "set_header": "x plan"}}"#,
            r#"{"plans": {"claim": "/plan", "gates": [{"prefix": "/"}]}}"#,
        ] {
            let error = evaluate(config, |_| ()).unwrap_err().to_string();
            assert!(
                error.contains("line 1, column") || config.is_empty(),
                "{config}: {error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
