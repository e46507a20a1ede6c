//! What happened: the content of the log.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::{NoContext, Timestamp, Uuid};

use crate::Time;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request under `audit: required` is about to be released to its upstream.
    Admission,
    /// A request was answered.
    Request,
    /// A policy module decided.
    Policy,
    /// A payload was signed, or was not.
    Signature,
    /// A manifest was signed, or was not.
    ManifestSignature,
    /// A policy module was loaded, swapped, removed, or could not be.
    PolicyLoad,
    /// The files of a policy are not what they should be.
    Tamper,
    /// Settings were read again.
    Settings,
    /// A signer was added, retired or removed.
    Signer,
    /// One signer took over from another; both signed for it.
    SignerRotation,
    /// A host started or stopped.
    Host,
    /// The clock of a host went back.
    Clock,
    /// Events were lost: `detail.count` of them.
    Lost,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Request => "request",
            Self::Policy => "policy",
            Self::Signature => "signature",
            Self::ManifestSignature => "manifest_signature",
            Self::PolicyLoad => "policy_load",
            Self::Tamper => "tamper",
            Self::Settings => "settings",
            Self::Signer => "signer",
            Self::SignerRotation => "signer_rotation",
            Self::Host => "host",
            Self::Clock => "clock",
            Self::Lost => "lost",
        }
    }

    /// Whether gates tell of it; of the rest only hosts do.
    #[must_use]
    pub fn of_gates(self) -> bool {
        matches!(self, Self::Admission | Self::Request | Self::Lost)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may; it was done.
    Allowed,
    /// It may not.
    Denied,
    /// It could not be decided or done.
    Failed,
}

impl Decision {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// What happened, as the one tells it to whom it happened. It holds no secret: no header's value, no query's, no body.
///
/// The fields stand in the order of their names, which is the order of the canonical form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What else there is to say, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, Value>,
    /// The name of the gateway or host that tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Names it. An event that is told twice stands in the log once.
    pub id: Uuid,
    /// What it tells of.
    pub kind: Kind,
    /// How long it took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's path; of its query, the names alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The policy that decided, or that was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The digest of its module: `sha256:` and hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// Why: a reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id that gateway, host and upstream know the request by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The gate's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Who signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_id: Option<String>,
    /// The response's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// For which tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// When it happened, by the clock of who tells it.
    pub time: Time,
}

/// An event that does not go into a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A text or `detail` is too long.
    #[error("{field} has more than {most} bytes")]
    Long {
        /// What is too long.
        field: &'static str,
        /// The most it may have.
        most: usize,
    },
    /// A text holds U+0000, which Postgres cannot keep.
    #[error("{field} holds the character U+0000")]
    Nul {
        /// Where it stands.
        field: &'static str,
    },
    /// `detail` holds values in values in values.
    #[error("detail is nested more than {} deep", Event::DEEPEST)]
    Deep,
    /// RFC 8785 writes numbers as doubles: this one would not be what it was. It can stand as a text.
    #[error("{field} holds a whole number beyond 2^53, which the canonical form cannot write")]
    Number {
        /// Where it stands.
        field: &'static str,
    },
}

impl Event {
    /// The most bytes of a text: of `path` eight times as many.
    pub const LONGEST: usize = 256;

    /// The most bytes of `detail`, counted as they come, without what JSON escapes.
    pub const LONGEST_DETAIL: usize = 16_384;
    /// How deep the values of `detail` may be nested.
    pub const DEEPEST: usize = 16;

    /// An event of this kind, named at random, with nothing more to say yet.
    #[must_use]
    pub fn new(kind: Kind, time: Time) -> Self {
        Self {
            decision: None,
            detail: BTreeMap::new(),
            gateway: None,
            // Version 7 begins with the time: an index of them grows at its end.
            id: name(SystemTime::now()),
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

    /// Whether it has a length and a form that every store takes.
    ///
    /// # Errors
    /// The first thing that has not.
    pub fn check(&self) -> Result<(), Invalid> {
        let texts = [
            ("gateway", &self.gateway, Self::LONGEST),
            ("method", &self.method, Self::LONGEST),
            ("path", &self.path, 8 * Self::LONGEST),
            ("policy", &self.policy, Self::LONGEST),
            ("policy_digest", &self.policy_digest, Self::LONGEST),
            ("reason", &self.reason, Self::LONGEST),
            ("request_id", &self.request_id, Self::LONGEST),
            ("rule", &self.rule, Self::LONGEST),
            ("signer_id", &self.signer_id, Self::LONGEST),
            ("subject", &self.subject, Self::LONGEST),
            ("tenant", &self.tenant, Self::LONGEST),
        ];
        for (field, text, most) in texts {
            let Some(text) = text else { continue };
            if text.len() > most {
                return Err(Invalid::Long { field, most });
            }
            whole(field, text)?;
        }
        if self.latency_us.is_some_and(|us| us > EXACT) {
            return Err(Invalid::Number { field: "latency_us" });
        }
        let mut left = Self::LONGEST_DETAIL;
        for (name, value) in &self.detail {
            take(&mut left, name.len())?;
            whole("detail", name)?;
            check_value(value, Self::DEEPEST, &mut left)?;
        }
        Ok(())
    }
}

/// A new id. `Uuid::now_v7` panics while the clock stands before 1970; here, that counts as 1970.
fn name(now: SystemTime) -> Uuid {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(
        NoContext,
        since.as_secs(),
        since.subsec_nanos(),
    ))
}

/// The largest number up to which a double tells all whole numbers apart.
const EXACT: u64 = 1 << 53;

fn whole(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::Nul { field });
    }
    Ok(())
}

fn take(left: &mut usize, bytes: usize) -> Result<(), Invalid> {
    // Quotes and a comma, or the digits of a number.
    let bytes = bytes + 4;
    *left = left.checked_sub(bytes).ok_or(Invalid::Long {
        field: "detail",
        most: Event::LONGEST_DETAIL,
    })?;
    Ok(())
}

fn check_value(value: &Value, deeper: usize, left: &mut usize) -> Result<(), Invalid> {
    let deeper = deeper.checked_sub(1).ok_or(Invalid::Deep)?;
    match value {
        Value::Null | Value::Bool(_) => take(left, 1),
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if whole.is_some_and(|n| n > EXACT) {
                return Err(Invalid::Number { field: "detail" });
            }
            take(left, 20)
        }
        Value::String(text) => {
            whole("detail", text)?;
            take(left, text.len())
        }
        Value::Array(values) => {
            take(left, 0)?;
            values
                .iter()
                .try_for_each(|value| check_value(value, deeper, left))
        }
        Value::Object(fields) => {
            take(left, 0)?;
            fields.iter().try_for_each(|(name, value)| {
                whole("detail", name)?;
                take(left, name.len())?;
                check_value(value, deeper, left)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use serde_json::json;

    fn with(detail: Value) -> Event {
        let mut event = Event::new(Kind::Policy, Time::EPOCH);
        event.detail.insert("it".into(), detail);
        event
    }

    #[test]
    fn what_a_store_cannot_take_is_refused() {
        let text = |text: &str| Event {
            path: Some(text.into()),
            ..Event::new(Kind::Request, Time::EPOCH)
        };
        let number = |field| Err(Invalid::Number { field });
        let late = Event {
            latency_us: Some(9_007_199_254_740_993),
            ..Event::new(Kind::Request, Time::EPOCH)
        };
        let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
        let long = Invalid::Long {
            field: "detail",
            most: Event::LONGEST_DETAIL,
        };
        for (event, expected) in [
            (text("/"), Ok(())),
            (text(&"/".repeat(2048)), Ok(())),
            (
                text(&"/".repeat(2049)),
                Err(Invalid::Long {
                    field: "path",
                    most: 2048,
                }),
            ),
            (text("/\0"), Err(Invalid::Nul { field: "path" })),
            (with(json!("a\0")), Err(Invalid::Nul { field: "detail" })),
            (with(json!({"a\0": 1})), Err(Invalid::Nul { field: "detail" })),
            (with(json!({"a": [1, 2.5, null, true, "b"]})), Ok(())),
            (with(deep), Err(Invalid::Deep)),
            (with(json!(9_007_199_254_740_992_u64)), Ok(())),
            (with(json!(9_007_199_254_740_993_u64)), number("detail")),
            (with(json!(-9_007_199_254_740_993_i64)), number("detail")),
            (late, number("latency_us")),
            (with(json!("a".repeat(Event::LONGEST_DETAIL))), Err(long.clone())),
            (with(json!(vec![0; 1000])), Err(long)),
        ] {
            assert_eq!(event.check(), expected, "{event:?}");
        }
    }

    #[test]
    fn an_event_has_an_id_whatever_the_clock_says() {
        let years = |n: u64| Duration::from_secs(n * 31_557_600);
        let ids: BTreeSet<Uuid> = [
            UNIX_EPOCH - Duration::from_secs(1),
            UNIX_EPOCH - years(60),
            UNIX_EPOCH,
            SystemTime::now(),
            UNIX_EPOCH + years(9000),
        ]
        .into_iter()
        .map(name)
        .collect();
        assert_eq!(ids.len(), 5);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
