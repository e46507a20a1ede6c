//! The sixth stage: the rule's policy. The gate makes the request to the policy host and judges the response; the
//! shell carries both.

use crate::Reason;
use crate::denial::Denial;
use crate::evaluation::Evaluation;
use crate::gate::{Gate, Tables};
use crate::pending::{BodyReader, PendingBody, PendingPolicy, PendingResponse};
use crate::policy::{
    Allowance, CheckInput, DecisionCache, Digest, Part, Policy, PolicyResponse, Reply, RequestDetails,
    encode, identity_json, invalid_header, key,
};
use crate::ports::{Observation, Ports};
use crate::request::{Header, Request};
use crate::step::{Need, Step};

/// The start of consulting a policy.
#[derive(Debug)]
pub enum Consultation {
    /// A cached decision.
    Decided(Step),
    /// The message to send to the policy host. Its response goes to
    /// [`Gate::resume_with_response`](crate::Gate::resume_with_response).
    Call(PendingResponse, Vec<u8>),
}

impl Evaluation<'_> {
    /// Waits for the policy that the rule names, if any, and before it for the body that the policy is sent.
    pub(super) fn consult_policy(self) -> Step {
        let Some(policy) = self.rule.policy.clone() else {
            return self.audit(None);
        };
        let received = if self.request.end_of_stream {
            Some(0)
        } else {
            self.progress.body
        };
        match (policy.body, received) {
            (Some(max), size) if size.map_or(self.request.is_longer_than(max), |size| size > max) => {
                self.deny(Reason::BodyTooLarge)
            }
            (Some(_), None) if self.request.is_upgrade() => self.deny(Reason::UpgradeRefused),
            (Some(max), None) => Step::Need(Need::Body(PendingBody {
                suspended: self.suspend(),
                reader: BodyReader::Policy { max, received: 0 },
            })),
            (None, _) | (Some(_), Some(_)) => Step::Need(Need::Policy(PendingPolicy {
                suspended: self.suspend(),
                policy,
            })),
        }
    }

    /// Continues a request that the policy allows.
    fn allowed_by_policy(self, mut allowance: Allowance) -> Step {
        allowance.remove.retain(|name| !is_irremovable(name));
        let changes =
            !allowance.request.is_empty() || !allowance.remove.is_empty() || !allowance.response.is_empty();
        self.audit(changes.then(|| Box::new(allowance)))
    }

    /// Checks the response of the policy host.
    fn apply_response(&mut self, policy: &Policy, response: PolicyResponse) -> Result<Allowance, Denial> {
        match response {
            PolicyResponse::Allow(allowance) => match self.gate.invalid_change(&allowance) {
                None => Ok(allowance),
                Some(why) => Err(self.policy_failed(why)),
            },
            PolicyResponse::Deny(None) => Err(Reason::PolicyDenied.into()),
            PolicyResponse::Deny(Some(reply)) => match invalid_reply(&reply) {
                None => Err(Denial::new(Reason::PolicyDenied).reply(reply)),
                Some(why) => Err(self.policy_failed(why)),
            },
            PolicyResponse::Failed(why) => Err(self.policy_failed(&why)),
            PolicyResponse::Unavailable(why) => {
                let rule = self.rule.id;
                self.ports
                    .observer
                    .observe(&Observation::PolicyError { rule, why: &why });
                if !policy.fail_open {
                    return Err(Reason::PolicyUnavailable.into());
                }
                self.ports
                    .observer
                    .observe(&Observation::PolicyFailedOpen { rule });
                self.progress.failed_open = true;
                Ok(Allowance::default())
            }
        }
    }

    fn policy_failed(&self, why: &str) -> Denial {
        let rule = self.rule.id;
        self.ports
            .observer
            .observe(&Observation::PolicyError { rule, why });
        Reason::PolicyFailed.into()
    }

    /// The cache, if the rule's policy uses it.
    fn decision_cache(&self, policy: &Policy) -> Option<&DecisionCache> {
        self.tables.policies.as_ref().filter(|_| policy.cached)
    }

    fn cache_key(
        &self,
        cache: &DecisionCache,
        policy: &Policy,
        parts: &[Part],
        identity: Option<&str>,
    ) -> Digest {
        key(
            cache.seed(),
            &policy.module,
            &self.rule.name,
            parts,
            self.request,
            identity,
        )
    }

    fn cached(&self, policy: &Policy, identity: Option<&str>) -> Option<Allowance> {
        let cache = self.decision_cache(policy)?;
        let parts = DecisionCache::parts(self.ports.state, &policy.module, &self.rule.name)?;
        let key = self.cache_key(cache, policy, &parts, identity);
        let allowance = DecisionCache::get(self.ports.state, &key, self.ports.clock.monotonic())?;
        // The configuration may have changed since, and the headers that it reserves.
        self.gate
            .invalid_change(&allowance)
            .is_none()
            .then_some(allowance)
    }

    fn cache(&self, policy: &Policy, allowance: &Allowance) {
        let (Some(cache), Some(grant)) = (self.decision_cache(policy), &allowance.grant) else {
            return;
        };
        let identity = self.caller().map(identity_json);
        let key = self.cache_key(cache, policy, &grant.parts, identity.as_deref());
        let names = (policy.module.as_str(), self.rule.name.as_str());
        let now = self.ports.clock.monotonic();
        DecisionCache::put(self.ports.state, names, &key, now, allowance, grant);
    }
}

impl Gate {
    /// Consults a request's policy: the decision is in the cache, or takes a call to the policy host. `request` is
    /// the same as before, this time with its `source`.
    pub fn consult(
        &self,
        pending: PendingPolicy,
        request: &Request<'_>,
        details: &RequestDetails<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Consultation {
        let PendingPolicy { suspended, policy } = pending;
        let evaluation = Evaluation::resume(suspended, self, request, tables, ports);
        let rule = evaluation.rule.id;
        let identity = evaluation.caller().map(identity_json);
        if let Some(allowance) = evaluation.cached(&policy, identity.as_deref()) {
            ports.observer.observe(&Observation::PolicyCached { rule });
            return Consultation::Decided(evaluation.allowed_by_policy(allowance));
        }
        ports.observer.observe(&Observation::PolicyCalled { rule });
        let message = encode(
            request,
            &CheckInput {
                module: &policy.module,
                rule: &evaluation.rule.name,
                identity: identity.as_deref(),
                withheld: &|header| self.withholds(header, &evaluation.progress.strip),
                time: ports.clock.wall(),
                details,
                sends_body: policy.body.is_some(),
            },
        );
        let pending = PendingResponse {
            suspended: evaluation.suspend(),
            policy,
        };
        Consultation::Call(pending, message)
    }

    /// Continues a request with the response of its policy, or with the reason why there is none. `request` is as for
    /// [`consult`](Self::consult).
    pub fn resume_with_response(
        &self,
        pending: PendingResponse,
        response: PolicyResponse,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        let PendingResponse { suspended, policy } = pending;
        let mut evaluation = Evaluation::resume(suspended, self, request, tables, ports);
        match evaluation.apply_response(&policy, response) {
            Ok(allowance) => {
                evaluation.cache(&policy, &allowance);
                evaluation.allowed_by_policy(allowance)
            }
            Err(denial) => evaluation.deny(denial),
        }
    }

    /// Whether a header is withheld from policies: it carries a credential that the gate checks, or an identity
    /// header that the client sent.
    fn withholds(&self, (name, value): &Header<'_>, stripped: &[String]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else {
            return false;
        };
        // Authorization schemes that the gate does not read are the policy's to check.
        let bearer = |value: &[u8]| {
            let value = value.trim_ascii_start();
            value
                .get(..6)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        };
        (name == "authorization" && self.reads_tokens() && bearer(value))
            || self.credential_headers().iter().any(|header| header == name)
            || stripped.iter().any(|stripped| stripped == name)
    }

    /// The first change of an allowance that a policy may not make, and why.
    fn invalid_change(&self, allowance: &Allowance) -> Option<&'static str> {
        let reserved = |name: &str| !self.reserved_among(&[(name.as_bytes(), b"")]).is_empty();
        let set = allowance.request.iter().find_map(|change| {
            let identity = || reserved(&change.name).then_some("sets an identity header");
            invalid_header(&change.name, &change.value).or_else(identity)
        });
        let removed = || {
            let names = allowance.remove.iter().filter(|name| !is_irremovable(name));
            names.map(|name| invalid_header(name, b"")).find_map(|why| why)
        };
        let mut response = allowance.response.iter();
        set.or_else(removed)
            .or_else(|| response.find_map(|change| invalid_header(&change.name, &change.value)))
    }
}

fn invalid_reply(reply: &Reply) -> Option<&'static str> {
    let mut headers = reply.headers.iter();
    headers.find_map(|(name, value)| invalid_header(name, value))
}

/// Headers whose removal the protocol ignores (`CheckResponse.headers_to_remove`).
fn is_irremovable(name: &str) -> bool {
    name == "host" || name.starts_with(':')
}

#[cfg(test)]
mod tests;
