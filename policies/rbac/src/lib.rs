//! A policy module: roles by method and path template.
//!
//! The first matching rule decides. Every request parses and validates the whole configuration, which dominates the
//! module's run time, so the configuration borrows from its text.

mod config;

use std::time::Duration;

use postern_sdk::{Decision, Error, Part, Request, config_text, deny, parse_config};

use config::{Access, Config, DefaultAction};

postern_sdk::policy!(authorize);

/// Never frees, because an instance handles one request. It uses the initial memory first. The standard library's
/// allocator grows memory at once, which costs the host a system call then and another one on reset.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: mini_alloc::MiniAlloc = mini_alloc::MiniAlloc::INIT;

fn authorize(request: &Request) -> Result<Decision, Error> {
    let text = config_text();
    let config: Config<'_> = parse_config(&text)?;
    let rule = config.rules.iter().find(|rule| rule.matches(request));
    let granted = match rule.map(|rule| &rule.access) {
        Some(Access::Open) => true,
        Some(Access::Roles(roles)) => roles.iter().any(|role| request.has_role(&role.0)),
        None => match config.default {
            DefaultAction::Allow => true,
            DefaultAction::Deny => {
                return Ok(deny(403, "no_rule", "No rule allows this request.").into());
            }
        },
    };
    if !granted {
        return Ok(deny(403, "role_missing", "The caller does not have a required role.").into());
    }
    let allowance = Decision::allow();
    Ok(match config.cache_ms {
        0 => allowance,
        ms => {
            let parts = [Part::Method, Part::Path, Part::Identity];
            allowance.cache(Duration::from_millis(ms.into()), parts)
        }
    }
    .into())
}

#[cfg(test)]
mod tests {
    use postern_sdk::testing::{Host, RequestBuilder, request};
    use serde_json::{Value, json};

    use super::*;

    fn kernel() -> Value {
        json!({"rules": [
            {"methods": ["GET"], "path": "/health", "open": true},
            {"methods": ["POST"], "path": "/kernel/division", "roles": ["DivisionLead", "SuperAdmin"]},
            {"methods": ["GET"], "path": "/kernel/audit/{id}", "roles": ["Auditor", "SuperAdmin"]},
            {"path": "/kernel/files/{rest..}", "roles": ["Service"]},
            {"path": "/{rest..}", "methods": ["DELETE", "PATCH"], "roles": ["\u{e9}quipe"]},
        ]})
    }

    fn code(config: &Value, request: RequestBuilder) -> String {
        match Host::new().config(config).call(authorize, &request.build()) {
            Ok(Decision::Allow(_)) => "allowed".into(),
            Ok(Decision::Deny(denial)) => {
                assert_eq!(denial.status, 403);
                denial.code
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (method, path, roles, expected) in [
            ("GET", "/health", &[][..], "allowed"),
            ("POST", "/health", &[], "no_rule"),
            ("POST", "/kernel/division", &["DivisionLead"], "allowed"),
            ("POST", "/kernel/division", &["Auditor", "SuperAdmin"], "allowed"),
            ("POST", "/kernel/division", &["Auditor"], "role_missing"),
            ("POST", "/kernel/division", &["divisionlead"], "role_missing"),
            (
                "POST",
                "/kernel/division",
                &["", "*", "DivisionLead,SuperAdmin"],
                "role_missing",
            ),
            ("POST", "/kernel/division", &[], "role_missing"),
            ("post", "/kernel/division", &["DivisionLead"], "no_rule"),
            ("POST", "/kernel/division/", &["DivisionLead"], "no_rule"),
            ("GET", "/kernel/audit/7", &["Auditor"], "allowed"),
            ("HEAD", "/kernel/audit/7", &["Auditor"], "no_rule"),
            ("GET", "/kernel/audit/", &["Auditor"], "no_rule"),
            ("GET", "/kernel/audit/7/8", &["Auditor"], "no_rule"),
            ("PUT", "/kernel/files/a/b", &["Service"], "allowed"),
            ("DELETE", "/kernel/files/a/b", &["équipe"], "role_missing"),
            ("DELETE", "/caf%C3%A9", &["équipe"], "allowed"),
            ("DELETE", "/caf%C3%A9", &["e\u{301}quipe"], "role_missing"),
            ("OPTIONS", "*", &["SuperAdmin"], "no_rule"),
            ("", "", &["SuperAdmin"], "no_rule"),
        ] {
            let sent = roles
                .iter()
                .fold(request().method(method).path(path), |request, role| {
                    request.role(*role)
                });
            assert_eq!(code(&kernel(), sent), expected, "{method} {path} {roles:?}");
        }
    }

    #[test]
    fn unmatched_requests_can_be_allowed_by_default() {
        let mut config = kernel();
        config["default"] = json!("allow");
        assert_eq!(code(&config, request().path("/other")), "allowed");
        assert_eq!(code(&config, request().path("/kernel/audit/7")), "role_missing");
    }

    #[test]
    fn a_cache_grant_depends_on_method_path_and_identity() {
        let mut config = kernel();
        let cache_grant = |config: &Value| {
            let request = request().path("/kernel/audit/7").role("Auditor").build();
            match Host::new().config(config).call(authorize, &request) {
                Ok(Decision::Allow(allowance)) => allowance.cache,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(cache_grant(&config), None);
        config["cache_ms"] = json!(5000);
        let grant = cache_grant(&config).unwrap();
        assert_eq!(grant.ttl_ms, 5000);
        assert_eq!(grant.parts, [Part::Method, Part::Path, Part::Identity]);
    }

    #[test]
    fn an_invalid_configuration_is_rejected() {
        for (config, expected) in [
            (json!({}), "missing field `rules`"),
            (
                json!({"rules": [{"path": "/a"}]}),
                "rules[0]: a rule needs `roles` or `open: true`",
            ),
            (
                json!({"rules": [{"path": "/a", "roles": []}]}),
                "rules[0]: a rule needs `roles` or `open: true`",
            ),
            (
                json!({"rules": [{"path": "/a", "roles": ["x"], "open": true}]}),
                "rules[0]: an open rule must not have `roles`",
            ),
            (
                json!({"rules": [{"roles": ["x"]}]}),
                "rules[0]: missing field `path`",
            ),
            (
                json!({"rules": [{"path": "a", "open": true}]}),
                "rules[0].path: a path template must begin with `/`",
            ),
            (
                json!({"rules": [], "default": "maybe"}),
                "default: expected `allow` or `deny`",
            ),
            (json!({"rules": [], "cache_ms": -1}), "cache_ms: expected u32"),
            (json!({"rules": [], "cache_ms": 1e30}), "cache_ms: expected u32"),
            (
                json!({"rules": [{"path": "/a", "open": true, "methods": []}]}),
                "rules[0]: `methods` must not be empty",
            ),
            (
                json!({"rules": [{"path": "/a", "role": "x"}]}),
                "rules[0].role: unknown field `role`, expected one of `methods`, `path`, `roles`, `open`",
            ),
        ] {
            let error = Host::new()
                .config(&config)
                .call(authorize, &request().build())
                .unwrap_err();
            assert_eq!(error, Error::Misconfigured(expected.into()), "{config}");
        }
    }
}
