//! The limits that count a request.

use std::borrow::Cow;
use std::rc::Rc;

use super::ending::Refusal;
use super::{Gate, Tables};
use crate::Reason;
use crate::denial::Denial;
use crate::identity::{Identity, Method};
use crate::limit::{KeyPart, Verdict};
use crate::ports::{Event, Ports};
use crate::request::{Request, Single, address_key};
use crate::step::Progress;

impl Gate {
    pub(super) fn count(
        &self,
        limits: &[usize],
        request: &Request<'_>,
        identity: Option<&Identity>,
        progress: &mut Progress,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Result<(), Refusal> {
        for limit in limits.iter().filter_map(|index| self.limits.get(*index)) {
            let parts = limit.key.iter().map(|part| key_part(part, request, identity));
            let verdict = tables
                .limits
                .as_ref()
                .map_or(Verdict::Unavailable, |limits| limits.check(limit, parts, ports));
            let report = limit.report(&verdict);
            ports.metrics.note(&Event::Limited { report: &report });
            match verdict {
                Verdict::Unavailable => return Err(Reason::LimitUnavailable.into()),
                Verdict::Admitted { .. } | Verdict::Exceeded { .. } => {
                    progress.policy = Some(match progress.policy.take() {
                        None => Rc::clone(limit.policy()),
                        Some(before) => format!("{before}, {}", limit.policy()).into(),
                    });
                    report.append_state(&mut progress.state);
                }
            }
            if !report.admitted {
                let denial =
                    Denial::new(Reason::LimitExceeded).header("retry-after", report.reset.to_string());
                return Err(Refusal(denial));
            }
        }
        Ok(())
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
