//! The last check: a policy of the platform's own. The gate says what to ask and what an answer comes to; the shell
//! carries both.

use super::ending::Refusal;
use super::{Gate, Tables};
use crate::Reason;
use crate::denial::Denial;
use crate::identity::Identity;
use crate::policy::{
    Allowance, Answer, Consultation, DecisionCache, Digest, Facts, Policy, PolicyHost, Question, Reply,
    encode, key, read_answer, told, unsound,
};
use crate::ports::{Event, Ports};
use crate::request::{Header, Request};
use crate::rule::Rule;
use crate::signature::Scheme;
use crate::step::{Need, Pending, Progress, Step, Waiting};

impl Pending {
    /// The policy that this request waits for, if it waits for one.
    fn policy<'a>(&self, gate: &'a Gate) -> Option<(&'a Rule, &'a Policy)> {
        if !matches!(self.waiting, Waiting::Policy) {
            return None;
        }
        let rule = gate.rules.get(self.rule)?;
        Some((rule, rule.policy.as_ref()?))
    }
}

impl Gate {
    /// The same gate, which asks `host`.
    pub(crate) fn asking(mut self, host: Option<PolicyHost>) -> Self {
        let keys = self.api_keys.iter().map(|set| set.header.clone());
        let signatures = self.schemes.iter().flat_map(Scheme::headers);
        self.credentials = keys.chain(signatures.map(str::to_owned)).collect();
        self.host = host;
        self
    }

    /// Who is asked by rules with a policy.
    #[must_use]
    pub fn policy_host(&self) -> Option<&PolicyHost> {
        self.host.as_ref()
    }

    /// The module that a request waits for, if it waits for one, and whether it is to be shown the body.
    #[must_use]
    pub fn policy_of(&self, pending: &Pending) -> Option<(&str, bool)> {
        let (_, policy) = pending.policy(self)?;
        Some((&policy.module, policy.body.is_some()))
    }

    /// Whether any answers are kept.
    pub(super) fn recalls(&self) -> bool {
        let mut policies = self.rules.list().iter().filter_map(|rule| rule.policy.as_ref());
        policies.any(|policy| policy.recalled)
    }

    /// Brings a request before its policy, once its body is there if that is to be shown.
    pub(super) fn put_to(
        &self,
        policy: &Policy,
        index: usize,
        rule: &Rule,
        request: &Request<'_>,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Step {
        let come = if request.end_of_stream {
            Some(0)
        } else {
            progress.body
        };
        let (need, waiting) = match (policy.body, come) {
            (None, _) => (Need::Policy, Waiting::Policy),
            (Some(max), size) if size.map_or(request.is_longer_than(max), |size| size > max) => {
                let denial = Denial::new(Reason::BodyTooLarge);
                return self.deny(Some((index, rule)), denial, progress, ports);
            }
            (Some(_), None) if request.is_upgrade() => {
                let denial = Denial::new(Reason::UpgradeRefused);
                return self.deny(Some((index, rule)), denial, progress, ports);
            }
            (Some(_), Some(_)) => (Need::Policy, Waiting::Policy),
            (Some(max), None) => (Need::Body { max }, Waiting::Shown { max, received: 0 }),
        };
        let pending = Pending {
            rule: index,
            progress,
            waiting,
        };
        Step::Need(need, pending)
    }

    /// Consults the policy of a request that [needs](Need::Policy) one: by an answer that is remembered, or by a
    /// message to the policy host. `request` is the same as before, this time with its `source`.
    pub fn consult(
        &self,
        pending: Pending,
        request: &Request<'_>,
        facts: &Facts<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Consultation {
        let Some((rule, policy)) = pending.policy(self) else {
            return Consultation::Settled(self.lost(pending, ports));
        };
        let identity = pending.caller().map(told);
        let asked = Asked {
            rule,
            policy,
            request,
            identity: identity.as_deref(),
        };
        if let Some(allowance) = self.recall(&asked, tables, ports) {
            ports.metrics.note(&Event::PolicyRecalled { rule: pending.rule });
            return Consultation::Settled(self.allowed(pending, allowance, ports));
        }
        ports.metrics.note(&Event::PolicyAsked { rule: pending.rule });
        let stripped = &pending.progress.strip;
        let message = encode(
            request,
            &Question {
                module: &policy.module,
                rule: &rule.name,
                identity: asked.identity,
                withheld: &|header| self.withholds(header, stripped),
                time: ports.clock.wall(),
                facts,
                shows_body: policy.body.is_some(),
            },
        );
        Consultation::Ask(pending, message)
    }

    /// Goes on with a request whose policy has answered, or could not be asked. `request` as for
    /// [`consult`](Self::consult).
    pub fn answered(
        &self,
        mut pending: Pending,
        answer: Answer,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        let Some((rule, policy)) = pending.policy(self) else {
            return self.lost(pending, ports);
        };
        let index = pending.rule;
        let verdict = match answer {
            Answer::Allow(allowance) => match self.unsound(&allowance) {
                None => Ok(allowance),
                Some(why) => Err(failed(index, why, ports)),
            },
            Answer::Deny(None) => Err(Reason::PolicyDenied.into()),
            Answer::Deny(Some(reply)) => Err(match unsound_reply(&reply) {
                None => Refusal(Denial::new(Reason::PolicyDenied).reply(reply)),
                Some(why) => failed(index, why, ports),
            }),
            Answer::Failed(why) => Err(failed(index, &why, ports)),
            Answer::Unavailable(why) => {
                ports.metrics.note(&Event::PolicyTrouble {
                    rule: index,
                    why: &why,
                });
                if policy.failed_open {
                    ports.metrics.note(&Event::PolicyWaived { rule: index });
                    pending.progress.failed_open = true;
                    Ok(Allowance::default())
                } else {
                    Err(Reason::PolicyUnavailable.into())
                }
            }
        };
        match verdict {
            Ok(allowance) => {
                let identity = pending.caller().map(told);
                let asked = Asked {
                    rule,
                    policy,
                    request,
                    identity: identity.as_deref(),
                };
                remember(&asked, &allowance, tables, ports);
                self.allowed(pending, allowance, ports)
            }
            Err(refusal) => self.deny(Some((index, rule)), refusal.0, pending.progress, ports),
        }
    }

    /// The policy allows: nothing more is asked.
    fn allowed(&self, pending: Pending, mut allowance: Allowance, ports: &Ports<'_>) -> Step {
        allowance.remove.retain(|name| !kept(name));
        let wanted =
            !allowance.request.is_empty() || !allowance.remove.is_empty() || !allowance.response.is_empty();
        let policy = wanted.then(|| Box::new(allowance));
        self.pass(pending.rule, pending.progress, policy, ports)
    }

    /// A request that waits for no policy: a mistake of the shell's.
    fn lost(&self, pending: Pending, ports: &Ports<'_>) -> Step {
        self.deny(None, Denial::new(Reason::GateFailed), pending.progress, ports)
    }

    /// Whether a policy is not shown a header: it carries a credential that the gate checks, or an identity that only
    /// the client claims.
    fn withholds(&self, (name, value): &Header<'_>, stripped: &[String]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else {
            return false;
        };
        // Other schemes than the one the gate reads are nobody's secret but the policy's.
        let bearer = |value: &[u8]| {
            let value = value.trim_ascii_start();
            value
                .get(..6)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        };
        (name == "authorization" && !self.issuers.list().is_empty() && bearer(value))
            || self.credentials.contains(name)
            || stripped.iter().any(|stripped| stripped == name)
    }

    /// Why an allowance cannot be carried out, if it cannot.
    fn unsound(&self, allowance: &Allowance) -> Option<&'static str> {
        let reserved = |name: &str| !self.reserved_among(&[(name.as_bytes(), b"")]).is_empty();
        let set = allowance.request.iter().find_map(|change| {
            let own = || reserved(&change.name).then_some("sets a header that tells who is calling");
            unsound(&change.name, &change.value).or_else(own)
        });
        let removed = || {
            let names = allowance.remove.iter().filter(|name| !kept(name));
            names.map(|name| unsound(name, b"")).find_map(|why| why)
        };
        let mut response = allowance.response.iter();
        set.or_else(removed)
            .or_else(|| response.find_map(|change| unsound(&change.name, &change.value)))
    }

    fn recall(&self, asked: &Asked<'_>, tables: &Tables, ports: &Ports<'_>) -> Option<Allowance> {
        let memory = tables.policies.as_ref().filter(|_| asked.policy.recalled)?;
        let parts = DecisionCache::parts(ports.state, &asked.policy.module, &asked.rule.name)?;
        let key = asked.key(memory, &parts);
        let allowance = DecisionCache::recall(ports.state, &key, ports.clock.monotonic())?;
        // The configuration may have changed since, and what it reserves with it.
        self.unsound(&allowance).is_none().then_some(allowance)
    }
}

/// What is asked of a policy, and so what its answer depends on.
struct Asked<'a> {
    rule: &'a Rule,
    policy: &'a Policy,
    request: &'a Request<'a>,
    identity: Option<&'a str>,
}

impl Asked<'_> {
    fn key(&self, memory: &DecisionCache, parts: &[crate::policy::Part]) -> Digest {
        let (module, rule) = (&self.policy.module, &self.rule.name);
        key(memory.seed(), module, rule, parts, self.request, self.identity)
    }
}

fn remember(asked: &Asked<'_>, allowance: &Allowance, tables: &Tables, ports: &Ports<'_>) {
    let memory = tables.policies.as_ref().filter(|_| asked.policy.recalled);
    let (Some(memory), Some(grant)) = (memory, &allowance.grant) else {
        return;
    };
    let key = asked.key(memory, &grant.parts);
    let names = (asked.policy.module.as_str(), asked.rule.name.as_str());
    DecisionCache::remember(
        ports.state,
        names,
        &key,
        ports.clock.monotonic(),
        allowance,
        grant,
    );
}

fn failed(rule: usize, why: &str, ports: &Ports<'_>) -> Refusal {
    ports.metrics.note(&Event::PolicyTrouble { rule, why });
    Reason::PolicyFailed.into()
}

fn unsound_reply(reply: &Reply) -> Option<&'static str> {
    let mut headers = reply.headers.iter();
    headers.find_map(|(name, value)| unsound(name, value))
}

/// Headers that cannot be removed: the protocol has such a wish passed over.
fn kept(name: &str) -> bool {
    name == "host" || name.starts_with(':')
}

impl Pending {
    fn caller(&self) -> Option<&Identity> {
        self.progress.caller.as_deref()
    }
}

impl Answer {
    /// Reads the policy host's answer, a `CheckResponse`.
    #[must_use]
    pub fn of_message(message: &[u8]) -> Self {
        read_answer(message)
    }
}

#[cfg(test)]
mod tests;
