//! The decision, independent of the transport.

use std::fmt;

use serde_json::{Value, json};

use crate::config::{Config, Plans};
use crate::window::Window;

/// The request and configuration to decide on.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    /// The policy's configuration, as JSON.
    pub config: &'a str,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub time: u64,
    /// HTTP method.
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// The caller's roles, comma-separated.
    pub roles: &'a str,
    /// The claims of the caller's token, as JSON; empty without a token.
    pub claims: &'a str,
}

/// A decision.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request is allowed, with this header, name and value, for the upstream.
    Allow(Option<(String, String)>),
    /// The request is denied.
    Deny {
        /// HTTP status of the response.
        status: u16,
        /// Seconds for the `retry-after` header.
        retry_after: Option<u64>,
        /// A problem document (RFC 9457).
        problem: String,
    },
}

/// The configuration is invalid. Contains the position, but no value.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid configuration at {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Decides on a request.
///
/// # Errors
/// [`ConfigError`] if the configuration is invalid.
pub fn decide(input: &PolicyInput<'_>) -> Result<Decision, ConfigError> {
    // serde's message would quote the value.
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
    // Of overlapping windows, use the one that ends last.
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
            Err(_) => return deny("plan_invalid", "The caller's plan is invalid."),
        },
    };
    let plan = match claims.pointer(&plans.claim) {
        Some(Value::String(plan)) => Some(plan),
        None | Some(Value::Null) => plans.default.as_ref(),
        // A claim of another type must not fall back to the default.
        Some(_) => return deny("plan_invalid", "The caller's plan is invalid."),
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
        // Not valid in a header value.
        return deny("plan_invalid", "The caller's plan is invalid.");
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

    /// The start of a Sunday, 2026-03-01T00:00:00Z.
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

    /// Status, code and `retry-after` of a denial, or the header for the upstream.
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
    fn an_open_window_denies_requests() {
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
    fn exempt_roles_and_methods_are_allowed() {
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
    fn plans_limit_paths() {
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
    fn the_windows_message_is_in_the_problem() {
        let Ok(Decision::Deny { problem, .. }) = evaluate(&config(), |input| input.time = SUNDAY) else {
            panic!("not denied");
        };
        assert_eq!(
            problem,
            r#"{"code":"maintenance","detail":"Every week.","status":503,"title":"Service Unavailable","type":"about:blank"}"#
        );
        assert_eq!(evaluate("{}", |_| ()), Ok(Decision::Allow(None)));
    }

    #[test]
    fn configuration_errors_contain_no_values() {
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
