//! The second and fifth stage: the limits that count a request.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::Reason;
use crate::denial::Denial;
use crate::evaluation::Evaluation;
use crate::identity::{CredentialKind, Identity};
use crate::limit::{ChargeResult, KeyPart, Limit, LimitCheck, Limiter, Unavailable, whole_seconds};
use crate::ports::Observation;
use crate::request::{Request, Single, address_key};
use crate::step::Step;

impl Evaluation<'_> {
    pub(super) fn limit(mut self) -> Step {
        let rule = Rc::clone(&self.rule);
        match self.charge(&rule.limits) {
            Ok(()) => self.consult_policy(),
            Err(denial) => self.deny(denial),
        }
    }

    /// Charges a request to all of these limits, or to none: if one refuses, the charges to the others are refunded,
    /// those of an earlier call for the same request included.
    pub(super) fn charge(&mut self, limits: &[Rc<Limit>]) -> Result<(), Denial> {
        if limits.is_empty() {
            return Ok(());
        }
        let tables = self.tables;
        let charged = tables.limits.as_ref().ok_or(Unavailable).and_then(|limiter| {
            let now = self.ports.clock.monotonic();
            let charged = self
                .check_limits(limiter, limits, now)
                .and_then(|checks| self.charge_checked(limiter, checks, now));
            if !matches!(charged, Ok(Ok(()))) {
                self.refund(limiter);
            }
            if let Ok(Err(exceeded)) = &charged {
                self.report_exceeded(exceeded, now);
            }
            charged
        });
        match charged {
            Ok(Ok(())) => Ok(()),
            Ok(Err(exceeded)) => {
                // The longest wait: sooner, at least one of them would refuse again.
                let wait = exceeded
                    .iter()
                    .filter_map(LimitCheck::wait)
                    .max()
                    .unwrap_or_default();
                let seconds = whole_seconds(wait).to_string();
                Err(Denial::new(Reason::LimitExceeded).header("retry-after", seconds))
            }
            Err(Unavailable) => Err(Reason::LimitUnavailable.into()),
        }
    }

    fn check_limits(
        &self,
        limiter: &Limiter,
        limits: &[Rc<Limit>],
        now: Duration,
    ) -> Result<Vec<LimitCheck>, Unavailable> {
        let check = |limit: &Rc<Limit>| {
            let parts = limit
                .key
                .iter()
                .map(|part| key_part(part, self.request, self.caller()));
            limiter.check(limit, parts, now, self.ports)
        };
        limits.iter().map(check).collect()
    }

    /// Charges a request that every limit admits. Every limit's state, if one refuses.
    fn charge_checked(
        &mut self,
        limiter: &Limiter,
        checks: Vec<LimitCheck>,
        now: Duration,
    ) -> Result<Result<(), Vec<LimitCheck>>, Unavailable> {
        if checks.iter().any(|check| check.wait().is_some()) {
            return Ok(Err(checks));
        }
        let mut rest = checks.into_iter();
        while let Some(next) = rest.next() {
            match limiter.charge(next, self.ports)? {
                ChargeResult::Done(charge) => {
                    let report = charge.limit().report(charge.state(now), true);
                    self.ports
                        .observer
                        .observe(&Observation::Limited { report: &report });
                    report.append_state(&mut self.progress.rate_limit);
                    self.progress.charges.push(charge);
                }
                ChargeResult::Exceeded(exceeded) => {
                    return Ok(Err(std::iter::once(exceeded).chain(rest).collect()));
                }
            }
        }
        Ok(Ok(()))
    }

    fn refund(&self, limiter: &Limiter) {
        for charge in &self.progress.charges {
            limiter.refund(charge, self.ports);
        }
    }

    /// Reports the state of all limits of a request that was refused, and charged to none of them.
    fn report_exceeded(&mut self, checks: &[LimitCheck], now: Duration) {
        let charges = std::mem::take(&mut self.progress.charges);
        let refunded = charges
            .iter()
            .map(|charge| (charge.limit(), charge.state_before(now), true));
        let rest = checks
            .iter()
            .map(|check| (check.limit(), check.state(), check.wait().is_none()));
        let mut policies = Vec::new();
        self.progress.rate_limit.clear();
        for (limit, state, admitted) in refunded.chain(rest) {
            let report = limit.report(state, admitted);
            self.ports
                .observer
                .observe(&Observation::Limited { report: &report });
            report.append_state(&mut self.progress.rate_limit);
            policies.push(limit.policy());
        }
        self.progress.rate_limit_policy = Some(policies.join(", "));
    }
}

/// One part of a limit's key. Requests without it share one count.
fn key_part<'a>(part: &KeyPart, request: &Request<'a>, identity: Option<&'a Identity>) -> Cow<'a, [u8]> {
    let subject = |identity: &'a Identity| Cow::Borrowed(identity.key.as_bytes());
    match part {
        KeyPart::Subject => identity.map(subject).unwrap_or_default(),
        KeyPart::ApiKey => identity
            .filter(|i| i.method != CredentialKind::Jwt)
            .map(subject)
            .unwrap_or_default(),
        KeyPart::Address => request
            .source
            .map(|s| Cow::Owned(address_key(s).into_bytes()))
            .unwrap_or_default(),
        KeyPart::Header(name) => match request.single(name) {
            Single::Absent => Cow::default(),
            Single::One(value) => Cow::Borrowed(value),
            Single::Multiple => Cow::Owned(request.values(name).collect::<Vec<_>>().join(&b"\n"[..])),
        },
    }
}
