//! Policies, and the host that is asked.

use std::time::Duration;

use super::Compiler;
use crate::config::{self, OnError};
use crate::policy::{Policy, PolicyHost};

/// A body is copied into the question, so that it stays small.
const MAX_BODY: usize = 1 << 20;
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
        }
    }

    pub(super) fn policy(&mut self, at: &str, policy: &config::Policy) -> Policy {
        self.name(&format!("{at}.module"), &policy.module);
        if self.config.host.is_none() {
            let message = "needs \"host: {cluster: ...}\" at the top of the file: the cluster of who is asked";
            self.errors.add(at, message);
        }
        if policy
            .body
            .is_some_and(|body| body.0 == 0 || body.0 > MAX_BODY)
        {
            let message = "must be from 1B to 1MiB; leave it out for a policy that sees no body";
            self.errors.add(format!("{at}.body"), message);
        }
        Policy {
            module: policy.module.clone(),
            body: policy.body.map(|body| body.0),
            waived: policy.on_error == OnError::Allow,
            // A body is no part of a key: what was answered to one says nothing of another.
            recalled: policy.cache && policy.body.is_none(),
        }
    }
}
