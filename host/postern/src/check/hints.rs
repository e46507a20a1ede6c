//! What a valid configuration requires of Envoy, and which of its settings have no effect.

use std::collections::BTreeSet;
use std::time::Duration;

use postern_gate::config::{AuditMode, Config, Fallback, Rule, Signature};

use super::order;
use crate::document::Problem;
use crate::load::Loaded;
use crate::secrets;

/// Settings outside `gate.yaml` that this configuration needs.
pub(super) fn hints(config: &Config) -> Vec<String> {
    [
        stop_iteration(config),
        buffer(config),
        clusters(config),
        policy_host(config),
        variables(config),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rules that pause a request: for its body, while keys are fetched, while a policy decides, or until it is recorded.
fn stop_iteration(config: &Config) -> Option<String> {
    let shows_body = |rule: &Rule| rule.policy.as_ref().is_some_and(|policy| policy.body.is_some());
    let body: Vec<&str> = config
        .rules
        .iter()
        .filter(|rule| entries(rule).any(|entry| entry.starts_with("signatures/")) || shows_body(rule))
        .map(|rule| rule.name.as_str())
        .collect();
    let keys: Vec<&str> = rules_with(config, |entry| {
        let issuer = entry
            .strip_prefix("issuers/")
            .and_then(|name| config.issuers.get(name));
        issuer.is_some_and(|issuer| issuer.jwks.as_ref().is_some_and(|jwks| jwks.uri.is_some()))
    });
    let consulting = config.rules.iter().filter(|rule| rule.policy.is_some());
    let policy = consulting.map(|rule| rule.name.as_str()).collect();
    let required = config
        .rules
        .iter()
        .filter(|rule| rule.audit == Some(AuditMode::Required));
    let audit = required.map(|rule| rule.name.as_str()).collect();
    let waits = [
        ("the body", body),
        ("an issuer's keys", keys),
        ("a policy's decision", policy),
        ("the audit log", audit),
    ]
    .into_iter()
    .filter(|(_, rules)| !rules.is_empty())
    .map(|(what, rules)| format!("for {what} ({})", rules.join(", ")));
    let waits: Vec<String> = waits.collect();
    (!waits.is_empty()).then(|| {
        format!(
            "rules wait {}: set allow_on_headers_stop_iteration: true in the Wasm plugin's configuration",
            waits.join(" and ")
        )
    })
}

/// Body limits above Envoy's default buffer.
fn buffer(config: &Config) -> Option<String> {
    const DEFAULT: usize = 1 << 20;
    let sizes = config.signatures.iter().map(|(name, signature)| match signature {
        Signature::Github { max_body, .. } | Signature::Keyed { max_body, .. } => (max_body.0, name),
    });
    let (size, name) = sizes.max().filter(|(size, _)| *size > DEFAULT)?;
    Some(format!(
        "signatures.{name} accepts bodies of {size} bytes: set the listener's per_connection_buffer_limit_bytes to at \
         least that (Envoy's default is {DEFAULT}), or Envoy rejects them first"
    ))
}

fn rules_with(config: &Config, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let rules = config.rules.iter().filter(|rule| entries(rule).any(&wanted));
    rules.map(|rule| rule.name.as_str()).collect()
}

fn clusters(config: &Config) -> Option<String> {
    let clusters: BTreeSet<&str> = config
        .issuers
        .values()
        .filter_map(|issuer| issuer.jwks.as_ref()?.cluster.as_deref())
        .collect();
    (!clusters.is_empty()).then(|| format!("keys are fetched through Envoy's clusters: {}", join(&clusters)))
}

/// The cluster of the policy host, which must speak HTTP/2.
fn policy_host(config: &Config) -> Option<String> {
    let host = config.host.as_ref()?;
    let consulted = config.rules.iter().any(|rule| rule.policy.is_some());
    let what = match (consulted, config.audit.is_some()) {
        (true, false) => "policies are consulted",
        (true, true) => "policies are consulted and audit events are sent",
        (false, true) => "audit events are sent",
        (false, false) => return None,
    };
    Some(format!(
        "{what} through Envoy's cluster {}: set http2_protocol_options on it, for gRPC",
        host.cluster
    ))
}

fn variables(config: &Config) -> Option<String> {
    let variables: BTreeSet<&str> = secrets::references(config)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    (!variables.is_empty()).then(|| {
        format!(
            "pass to the VM in environment_variables.host_env_keys (Istio: vmConfig.env): {}",
            join(&variables)
        )
    })
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The entries of `authenticate.any`, such as `issuers/demo`.
fn entries(rule: &Rule) -> impl Iterator<Item = &str> {
    let any = rule
        .authenticate
        .iter()
        .flat_map(|authenticate| &authenticate.any);
    any.map(String::as_str)
}

/// Settings that are valid but probably mistakes. `now` is the time since the Unix epoch.
pub(super) fn warnings(loaded: &Loaded, now: Duration) -> Vec<Problem> {
    let config = &loaded.config;
    let mut warnings = unused(config);
    warnings.extend(unusable_keys(config, now));
    let consulted = config.rules.iter().any(|rule| rule.policy.is_some());
    if config.host.is_some() && !consulted && config.audit.is_none() {
        let message = "is not used: no rule has a policy, and there is no audit section";
        warnings.push(Problem::at("host", message));
    }
    warnings.extend(order::warnings(loaded));
    if config.default == Fallback::Allow {
        let message = "requests that no rule matches reach the upstream unauthenticated";
        warnings.push(Problem::at("default", message));
    }
    warnings
}

/// Key sets without keys, and expired keys.
fn unusable_keys(config: &Config, now: Duration) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, set) in config.api_keys.iter() {
        if set.keys.is_empty() {
            let message = "has no keys: nobody can authenticate with it";
            problems.push(Problem::at(format!("api_keys.{name}.keys"), message));
        }
        for (i, key) in set.keys.iter().enumerate() {
            if key.not_after.is_some_and(|end| end.0 <= now) {
                let message = format!(
                    "has passed: the key \"{}\" is rejected; remove it, or issue a new one",
                    key.id
                );
                problems.push(Problem::at(
                    format!("api_keys.{name}.keys[{i}].not_after"),
                    message,
                ));
            }
        }
    }
    problems
}

/// Entries that no rule uses.
fn unused(config: &Config) -> Vec<Problem> {
    let used: BTreeSet<&str> = config.rules.iter().flat_map(entries).collect();
    let limits: BTreeSet<&str> = config
        .rules
        .iter()
        .flat_map(|rule| &rule.limits)
        .map(String::as_str)
        .collect();
    let entries = [
        ("issuers", config.issuers.keys().collect::<Vec<_>>()),
        ("api_keys", config.api_keys.keys().collect()),
        ("signatures", config.signatures.keys().collect()),
    ];
    let entries = entries.iter().flat_map(|(kind, names)| {
        let used = &used;
        names
            .iter()
            .filter(move |name| !used.contains(format!("{kind}/{name}").as_str()))
            .map(move |name| format!("{kind}.{name}"))
    });
    let limits = config
        .limits
        .keys()
        .filter(|name| !limits.contains(name.as_str()))
        .map(|name| format!("limits.{name}"));
    entries
        .chain(limits)
        .map(|path| Problem::at(path, "is used by no rule"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(yaml: &str) -> Loaded {
        crate::load::load(yaml, secrets::UnsetSecret::Placeholder, &|_| None)
            .unwrap_or_else(|invalid| panic!("{invalid:?}"))
    }

    fn places(loaded: &Loaded) -> Vec<String> {
        let now = Duration::from_secs(1_767_225_600);
        let warnings = warnings(loaded, now);
        warnings.into_iter().map(|warning| warning.path).collect()
    }

    fn config(yaml: &str) -> Config {
        loaded(yaml).config
    }

    #[test]
    fn rules_that_pause_a_request_are_listed() {
        let loaded = loaded(include_str!("../../../../envoy/gate.yaml"));
        let hints = hints(&loaded.config).join("\n");
        assert!(
            hints.contains(
                "for the body (allocate, webhook) and for an issuer's keys (orders, admin, reports, allocate, sign) \
                 and for a policy's decision (reports, allocate) and for the audit log (sign)"
            ),
            "{hints}"
        );
        assert!(
            hints.contains("clusters: idp") && hints.contains("GITHUB_WEBHOOK_SECRET"),
            "{hints}"
        );
        assert_eq!(places(&loaded), Vec::<String>::new());
    }

    #[test]
    fn a_large_body_needs_a_large_buffer() {
        for (size, hinted) in [("1MiB", false), ("2MiB", true)] {
            let yaml = format!(
                "signatures: {{s: {{scheme: github, secrets: [{{env: S}}], max_body: {size}}}}}\n\
                 rules: [{{name: a, authenticate: {{any: [signatures/s]}}}}]"
            );
            let hints = hints(&config(&yaml)).join("\n");
            assert_eq!(
                hints.contains("signatures.s accepts bodies of 2097152 bytes"),
                hinted,
                "{hints}"
            );
        }
    }

    #[test]
    fn a_policy_pauses_the_request_and_needs_a_cluster() {
        let yaml = "host: {cluster: there}\nrules: [{name: a, open: true, policy: {module: m, body: 1KiB}}]";
        let hints = hints(&config(yaml)).join("\n");
        assert!(
            hints.contains("for the body (a) and for a policy's decision (a)")
                && hints.contains("cluster there"),
            "{hints}"
        );
        let idle = loaded("host: {cluster: there}\nrules: [{name: a, open: true}]");
        assert_eq!(places(&idle), ["host"]);
    }

    #[test]
    fn an_open_gate_needs_no_envoy_settings() {
        let config = config("rules: [{name: all, open: true}]");
        assert_eq!(hints(&config), Vec::<String>::new());
    }

    #[test]
    fn settings_without_effect_are_reported() {
        let loaded = loaded(
            "
limits: {slow: {quota: 1, window: 1s, key: [address]}}
rules: [{name: all, open: true}, {name: late, open: true}]
default: allow
",
        );
        assert_eq!(places(&loaded), ["limits.slow", "rules[1]", "default"]);
    }

    #[test]
    fn unusable_keys_are_reported() {
        let key = |id: &str, end: &str| {
            let digest = id.repeat(64);
            format!("{{id: k{id}, digest: 'sha256:{digest}', not_after: '{end}'}}")
        };
        let (past, coming) = (key("1", "2026-01-01T00:00:00Z"), key("2", "2026-01-01T00:00:01Z"));
        let loaded = loaded(&format!(
            "api_keys: {{none: {{keys: []}}, some: {{header: x-other, keys: [{coming}, {past}]}}}}\n\
             rules: [{{name: all, authenticate: {{any: [api_keys/none, api_keys/some]}}}}]"
        ));
        assert_eq!(
            places(&loaded),
            ["api_keys.none.keys", "api_keys.some.keys[1].not_after"]
        );
    }
}
