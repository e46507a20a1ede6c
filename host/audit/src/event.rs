//! Events: the content of the log.

mod kind;
mod validate;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::{NoContext, Timestamp, Uuid};

use crate::Time;

pub use kind::{Decision, Kind};
pub use validate::InvalidEvent;

/// An event as the gateway or host that it happened on reports it. It holds no secret: no header value, no query value,
/// no body.
///
/// The fields are in alphabetical order, which is the order of the canonical form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The decision or result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Further data, depending on the kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, Value>,
    /// The name of the gateway or host that reports the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Identifies the event. An event that is sent twice is in the log once.
    pub id: Uuid,
    /// The kind of the event.
    pub kind: Kind,
    /// The duration, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's path, with the names of its query parameters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The policy that decided, or that was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The digest of the policy's module: `sha256:` and hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id of the request that gateway, host and upstream share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The gate's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The id of the signer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_id: Option<String>,
    /// The status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The caller's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// When the event happened, by the clock of the gateway or host that reports it.
    pub time: Time,
}

impl Event {
    /// An event of this kind with a new id and all other fields empty.
    #[must_use]
    pub fn new(kind: Kind, time: Time) -> Self {
        Self {
            decision: None,
            detail: BTreeMap::new(),
            gateway: None,
            id: new_id(SystemTime::now()),
            kind,
            latency_us: None,
            method: None,
            path: None,
            policy: None,
            policy_digest: None,
            reason: None,
            request_id: None,
            rule: None,
            signer_id: None,
            status: None,
            subject: None,
            tenant: None,
            time,
        }
    }

    /// An event that the log itself records, in the name of its host.
    pub(crate) fn of_host(kind: Kind, host: &str, now: Time) -> Self {
        Self {
            gateway: Some(host.to_owned()),
            ..Self::new(kind, now)
        }
    }
}

/// A UUID of version 7, which begins with the time, so that an index of ids grows at its end. `Uuid::now_v7` panics while
/// the clock is before 1970; this function uses 1970 instead.
fn new_id(now: SystemTime) -> Uuid {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(
        NoContext,
        since.as_secs(),
        since.subsec_nanos(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_gets_an_id_at_any_clock_time() {
        let years = |n: u64| Duration::from_secs(n * 31_557_600);
        let ids: BTreeSet<Uuid> = [
            UNIX_EPOCH - Duration::from_secs(1),
            UNIX_EPOCH - years(60),
            UNIX_EPOCH,
            SystemTime::now(),
            UNIX_EPOCH + years(9000),
        ]
        .into_iter()
        .map(new_id)
        .collect();
        assert_eq!(ids.len(), 5);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
