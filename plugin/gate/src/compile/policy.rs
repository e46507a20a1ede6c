//! Compiles policies and the policy host.

use std::time::Duration;

use postern_config::SecretRef;

use super::Compiler;
use crate::config::{self, OnError};
use crate::policy::{Policy, PolicyHost};
use crate::secret::Secret;

/// The largest body that may be sent to a policy, in bytes: it is copied into the request to the host.
const MAX_BODY: usize = 1 << 20;
/// The longest host token, in bytes.
const MAX_TOKEN: usize = 4096;
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

impl Compiler<'_> {
    pub(super) fn policy_host(&mut self, host: &config::Host) -> PolicyHost {
        if host.cluster.is_empty() {
            self.errors
                .add("host.cluster", "must name the Envoy cluster of the policy host");
        }
        if host.timeout.0 < Duration::from_millis(1) || host.timeout.0 > MAX_TIMEOUT {
            self.errors.add("host.timeout", "must be from 1ms to 60s");
        }
        PolicyHost {
            cluster: host.cluster.clone(),
            timeout: host.timeout.0,
            authorization: host.token.as_ref().and_then(|token| self.authorization(token)),
        }
    }

    /// The value of `authorization`. The token has the form of RFC 6750, section 2.1. An invalid one is not shown in
    /// the error: it is a secret.
    fn authorization(&mut self, token: &SecretRef) -> Option<Secret> {
        let secret = self.secret("host.token", token)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        if secret.expose().len() > MAX_TOKEN || !secret.expose().iter().all(plain) {
            let message =
                "the token must be 1 to 4096 letters, digits or -._~+/=, without line feed or space";
            self.errors.add("host.token", message);
        }
        Some(Secret::new([b"Bearer ", secret.expose()].concat()))
    }

    pub(super) fn policy(&mut self, at: &str, policy: &config::Policy) -> Policy {
        self.check_name(&format!("{at}.module"), &policy.module);
        if self.config.host.is_none() {
            let message =
                "needs \"host: {cluster: ...}\" at the top of the file: the cluster of the policy host";
            self.errors.add(at, message);
        }
        if policy.body.is_some_and(|body| body.0 == 0 || body.0 > MAX_BODY) {
            let message = "must be from 1B to 1MiB; leave it out for a policy that needs no body";
            self.errors.add(format!("{at}.body"), message);
        }
        Policy {
            module: policy.module.clone(),
            body: policy.body.map(|body| body.0),
            fail_open: policy.on_error == OnError::Allow,
            // The cache key does not cover the body, so that a decision on one body could be used for another.
            cached: policy.cache && policy.body.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Gate, config};

    fn errors(host: Value, policy: Value) -> Vec<String> {
        let mut document = json!({"rules": [{"name": "a", "open": true, "policy": policy}]});
        if !host.is_null() {
            document["host"] = host;
        }
        let found = config::from_value(document).and_then(|config| Gate::compile(&config, &|_: &str| None));
        let issues = found.err().map(|errors| errors.issues().to_vec());
        issues.iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn each_error_has_its_path() {
        let (host, module) = (json!({"cluster": "c"}), json!({"module": "m"}));
        for (host, policy, path) in [
            (Value::Null, module.clone(), "rules[0].policy: needs \"host"),
            (json!({}), module.clone(), "host"),
            (json!({"cluster": ""}), module.clone(), "host.cluster: "),
            (
                json!({"cluster": "c", "timeout": "0s"}),
                module.clone(),
                "host.timeout: ",
            ),
            (
                json!({"cluster": "c", "timeout": "2m"}),
                module.clone(),
                "host.timeout: ",
            ),
            (host.clone(), json!({}), "rules[0].policy"),
            (host.clone(), json!({"module": "a.b"}), "rules[0].policy.module: "),
            (
                host.clone(),
                json!({"module": "m", "body": "0B"}),
                "rules[0].policy.body: ",
            ),
            (
                host.clone(),
                json!({"module": "m", "body": "2MiB"}),
                "rules[0].policy.body: ",
            ),
            (
                host.clone(),
                json!({"module": "m", "on_error": "pass"}),
                "rules[0].policy.on_error",
            ),
            (
                host.clone(),
                json!({"module": "m", "kache": true}),
                "rules[0].policy",
            ),
        ] {
            let found = errors(host, policy);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(path), "{path}: {found:?}");
        }
        let whole = json!({"module": "m", "body": "64KiB", "on_error": "allow", "cache": false});
        assert_eq!(errors(host, whole), Vec::<String>::new());
    }
}
