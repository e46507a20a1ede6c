//! Compiles the audit settings.

use std::time::Duration;

use super::Compiler;
use crate::audit::Audit;
use crate::config::{self, AuditMode};

/// The allowed range of `flush`. The filter looks for due batches ten times a second.
const FLUSH: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Events take some kilobytes each, in each worker.
const MAX_BUFFER: usize = 65_536;
const MAX_BATCH: usize = 1_024;

impl Compiler<'_> {
    pub(super) fn audit(&mut self, audit: &config::Audit) -> Audit {
        if self.config.host.is_none() {
            let message = "needs \"host: {cluster: ...}\" at the top of the file: the cluster of the host that keeps the log";
            self.errors.add("audit", message);
        }
        if !FLUSH.contains(&audit.flush.0) {
            self.errors.add("audit.flush", "must be from 100ms to 60s");
        }
        if !(1..=MAX_BUFFER).contains(&audit.buffer) {
            let message = format!("must be from 1 to {MAX_BUFFER} events");
            self.errors.add("audit.buffer", message);
        }
        if !(1..=MAX_BATCH).contains(&audit.batch) || audit.batch > audit.buffer {
            let message = format!("must be from 1 to {MAX_BATCH} events, and no more than buffer");
            self.errors.add("audit.batch", message);
        }
        Audit {
            flush: audit.flush.0,
            buffer: audit.buffer,
            batch: audit.batch,
        }
    }

    pub(super) fn audit_mode(&mut self, at: &str, mode: Option<AuditMode>) -> AuditMode {
        let recorded = matches!(mode, Some(AuditMode::Required | AuditMode::AfterResponse));
        if recorded && self.config.audit.is_none() {
            let message =
                "needs \"audit: {}\" at the top of the file, which sends decisions to the host's audit log";
            self.errors.add(format!("{at}.audit"), message);
        }
        mode.unwrap_or(AuditMode::AfterResponse)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Gate, Secret, config};

    fn errors(document: Value) -> Vec<String> {
        let secret = |name: &str| match name {
            "TOKEN" => Some(Secret::new("t0k3n-t0k3n")),
            "BROKEN" => Some(Secret::new("SECRET\nx: y")),
            "LONG" => Some(Secret::new("SECRET".repeat(1000))),
            _ => None,
        };
        let found = config::from_value(document).and_then(|config| Gate::compile(&config, &secret));
        let issues = found.err().map(|errors| errors.issues().to_vec());
        issues.iter().flatten().map(ToString::to_string).collect()
    }

    fn document(host: Value, audit: Value, rule: Value) -> Value {
        let mut document = json!({"rules": [{"name": "a", "open": true}]});
        for (name, section) in [("host", host), ("audit", audit)] {
            if !section.is_null() {
                document[name] = section;
            }
        }
        if !rule.is_null() {
            document["rules"][0]["audit"] = rule;
        }
        document
    }

    #[test]
    fn each_error_has_its_path() {
        let (host, none) = (json!({"cluster": "c"}), Value::Null);
        let with = |token: &str| json!({"cluster": "c", "token": {"env": token}});
        for (host, audit, rule, path) in [
            (none.clone(), json!({}), none.clone(), "audit: needs \"host"),
            (
                none.clone(),
                none.clone(),
                json!("required"),
                "rules[0].audit: needs \"audit",
            ),
            (
                host.clone(),
                none.clone(),
                json!("required"),
                "rules[0].audit: needs \"audit",
            ),
            (
                host.clone(),
                none.clone(),
                json!("on"),
                "rules[0].audit: needs \"audit",
            ),
            (
                host.clone(),
                json!({}),
                json!("require"),
                "rules[0].audit: unknown value \"require\": did you mean",
            ),
            (host.clone(), json!({}), json!(1), "rules[0].audit: expected"),
            (
                host.clone(),
                json!({"flushes": "1s"}),
                none.clone(),
                "audit: unknown field",
            ),
            (
                host.clone(),
                json!({"flush": "0s"}),
                none.clone(),
                "audit.flush: ",
            ),
            (
                host.clone(),
                json!({"flush": "2m"}),
                none.clone(),
                "audit.flush: ",
            ),
            (
                host.clone(),
                json!({"buffer": 65_537}),
                none.clone(),
                "audit.buffer: ",
            ),
            (host.clone(), json!({"batch": 0}), none.clone(), "audit.batch: "),
            (
                host.clone(),
                json!({"batch": 1025}),
                none.clone(),
                "audit.batch: ",
            ),
            (
                host.clone(),
                json!({"buffer": 10, "batch": 11}),
                none.clone(),
                "audit.batch: ",
            ),
            (
                with("UNSET"),
                none.clone(),
                none.clone(),
                "host.token.env: UNSET is not set",
            ),
            (
                with("BROKEN"),
                none.clone(),
                none.clone(),
                "host.token: the token must",
            ),
            (
                with("LONG"),
                none.clone(),
                none.clone(),
                "host.token: the token must",
            ),
            (
                json!({"cluster": "c", "token": "SECRET"}),
                none.clone(),
                none.clone(),
                "host.token: expected",
            ),
        ] {
            let found = errors(document(host, audit, rule));
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].starts_with(path), "{path}: {found:?}");
            assert!(!found[0].contains("SECRET"), "{found:?}");
        }
        for rule in [
            json!("required"),
            json!("on"),
            json!("off"),
            json!(true),
            json!(false),
            none.clone(),
        ] {
            let audit = json!({"flush": "1s", "buffer": 10, "batch": 10});
            assert_eq!(errors(document(with("TOKEN"), audit, rule)), Vec::<String>::new());
        }
        assert_eq!(
            errors(document(none.clone(), none, json!("off"))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_token_is_not_printed() {
        let document = json!({"host": {"cluster": "c", "token": {"env": "TOKEN"}}, "rules": []});
        let config = config::from_value(document).unwrap();
        let gate = Gate::compile(&config, &|_: &str| Some(Secret::new("t0k3n-t0k3n"))).unwrap();
        assert_eq!(
            gate.policy_host().unwrap().authorization(),
            Some("Bearer t0k3n-t0k3n")
        );
        assert!(!format!("{gate:?}").contains("t0k3n"));
    }
}
