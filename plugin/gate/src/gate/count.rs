//! The limits that count a request.

use std::borrow::Cow;
use std::time::Duration;

use super::ending::Refusal;
use super::{Gate, Tables};
use crate::Reason;
use crate::denial::Denial;
use crate::identity::{Identity, Method};
use crate::limit::{Charged, KeyPart, Limit, Limiter, Unavailable, Weighed, whole_seconds};
use crate::ports::{Event, Ports};
use crate::request::{Request, Single, address_key};
use crate::step::Progress;

impl Gate {
    /// Counts a request by all of these limits, or by none: one that refuses takes back what the others have charged,
    /// those of an earlier call for the same request included.
    pub(super) fn count(
        &self,
        limits: &[usize],
        request: &Request<'_>,
        identity: Option<&Identity>,
        progress: &mut Progress,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Result<(), Refusal> {
        if limits.is_empty() {
            return Ok(());
        }
        let counted = tables.limits.as_ref().ok_or(Unavailable).and_then(|limiter| {
            let now = ports.clock.monotonic();
            let weighed: Result<Vec<_>, _> = self
                .limits_at(limits)
                .map(|(index, limit)| {
                    let parts = limit.key.iter().map(|part| key_part(part, request, identity));
                    limiter.weigh(index, limit, parts, now, ports)
                })
                .collect();
            let charged = weighed.and_then(|all| self.charge(limiter, all, now, progress, ports));
            if !matches!(charged, Ok(Ok(()))) {
                self.refund(limiter, progress, ports);
            }
            if let Ok(Err(over)) = &charged {
                self.explain(over, now, progress, ports);
            }
            charged
        });
        match counted {
            Ok(Ok(())) => Ok(()),
            Ok(Err(over)) => {
                // True for all of them: before the longest wait is over, one of them would refuse again.
                let wait = over.iter().filter_map(Weighed::wait).max().unwrap_or_default();
                let seconds = whole_seconds(wait).to_string();
                Err(Refusal(
                    Denial::new(Reason::LimitExceeded).header("retry-after", seconds),
                ))
            }
            Err(Unavailable) => Err(Reason::LimitUnavailable.into()),
        }
    }

    fn limits_at(&self, indices: &[usize]) -> impl Iterator<Item = (usize, &Limit)> {
        indices
            .iter()
            .filter_map(|index| Some((*index, self.limits.get(*index)?)))
    }

    /// Charges a request that every limit admits. What every limit says, if one refuses.
    fn charge(
        &self,
        limiter: &Limiter,
        weighed: Vec<Weighed>,
        now: Duration,
        progress: &mut Progress,
        ports: &Ports<'_>,
    ) -> Result<Result<(), Vec<Weighed>>, Unavailable> {
        if weighed.iter().any(|weighed| weighed.wait().is_some()) {
            return Ok(Err(weighed));
        }
        let mut rest = weighed.into_iter();
        while let Some(next) = rest.next() {
            let Some(limit) = self.limits.get(next.limit()) else {
                return Err(Unavailable);
            };
            match limiter.charge(next, limit, ports)? {
                Charged::Done(charge) => {
                    let report = limit.report(charge.standing(limit, now), true);
                    ports.metrics.note(&Event::Limited { report: &report });
                    report.append_state(&mut progress.state);
                    progress.charges.push(charge);
                }
                Charged::Exceeded(over) => {
                    return Ok(Err(std::iter::once(over).chain(rest).collect()));
                }
            }
        }
        Ok(Ok(()))
    }

    fn refund(&self, limiter: &Limiter, progress: &Progress, ports: &Ports<'_>) {
        for charge in &progress.charges {
            if let Some(limit) = self.limits.get(charge.limit) {
                limiter.refund(charge, limit, ports);
            }
        }
    }

    /// What the limits say of a request that was refused, and charged to none of them.
    fn explain(&self, weighed: &[Weighed], now: Duration, progress: &mut Progress, ports: &Ports<'_>) {
        let refunded = progress.charges.iter().filter_map(|charge| {
            let limit = self.limits.get(charge.limit)?;
            Some((limit, charge.standing_before(limit, now), true))
        });
        let rest = weighed.iter().filter_map(|weighed| {
            let limit = self.limits.get(weighed.limit())?;
            Some((limit, weighed.standing(limit), weighed.wait().is_none()))
        });
        let mut policies = Vec::new();
        progress.state.clear();
        for (limit, standing, admitted) in refunded.chain(rest) {
            let report = limit.report(standing, admitted);
            ports.metrics.note(&Event::Limited { report: &report });
            report.append_state(&mut progress.state);
            policies.push(limit.policy());
        }
        progress.policy = Some(policies.join(", "));
        progress.charges.clear();
    }

    /// The value of `RateLimit-Policy` for a request that is refused.
    pub(super) fn rate_limit_policy(&self, progress: &mut Progress) -> Option<String> {
        if let Some(policy) = progress.policy.take() {
            return Some(policy);
        }
        let limits = progress.charges.iter();
        let policies: Vec<_> = limits
            .filter_map(|charge| Some(self.limits.get(charge.limit)?.policy()))
            .collect();
        (!policies.is_empty()).then(|| policies.join(", "))
    }
}

/// What is left and when there is more, on every response. The policy goes with refusals alone: it never changes, the
/// draft leaves its frequency to the server, and a second header on each response costs 2 % of the proxy's time.
pub(super) fn rate_limit_state(state: String) -> Option<(&'static str, String)> {
    (!state.is_empty()).then_some(("ratelimit", state))
}

/// One part of a limit's key. A part that the request has not counts as one more value: all such share a count.
fn key_part<'a>(part: &KeyPart, request: &Request<'a>, identity: Option<&'a Identity>) -> Cow<'a, [u8]> {
    let subject = |identity: &'a Identity| Cow::Borrowed(identity.key.as_bytes());
    match part {
        KeyPart::Subject => identity.map(subject).unwrap_or_default(),
        KeyPart::ApiKey => identity
            .filter(|i| i.method != Method::Jwt)
            .map(subject)
            .unwrap_or_default(),
        KeyPart::Address => request
            .source
            .map(|s| Cow::Owned(address_key(s).into_bytes()))
            .unwrap_or_default(),
        KeyPart::Header(name) => match request.single(name) {
            Single::Absent => Cow::default(),
            Single::One(value) => Cow::Borrowed(value),
            Single::Several => Cow::Owned(request.values(name).collect::<Vec<_>>().join(&b"\n"[..])),
        },
    }
}
