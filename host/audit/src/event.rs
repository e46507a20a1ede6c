//! What happened: the content of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

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
#[error("{field} has more than {most} bytes")]
pub struct Invalid {
    /// The field that is too long.
    pub field: &'static str,
    /// The most it may have.
    pub most: usize,
}

impl Event {
    /// The most bytes of a text: of `path` eight times as many.
    pub const LONGEST: usize = 256;

    /// An event of this kind, named at random, with nothing more to say yet.
    #[must_use]
    pub fn new(kind: Kind, time: Time) -> Self {
        Self {
            decision: None,
            detail: BTreeMap::new(),
            gateway: None,
            // Version 7 begins with the time: an index of them grows at its end.
            id: Uuid::now_v7(),
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

    /// Whether its texts have a length that a log takes.
    ///
    /// # Errors
    /// The first field that is too long.
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
            if text.as_ref().is_some_and(|text| text.len() > most) {
                return Err(Invalid { field, most });
            }
        }
        Ok(())
    }
}
