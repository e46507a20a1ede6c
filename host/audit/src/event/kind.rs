//! The kind and the decision of an event.

use serde::{Deserialize, Serialize};

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request under `audit: required` is about to be released to its upstream.
    Admission,
    /// A request was answered.
    Request,
    /// A policy module decided.
    Policy,
    /// A payload was signed, or signing it was denied or failed.
    Signature,
    /// A manifest was signed, or signing it was denied or failed.
    ManifestSignature,
    /// A policy module was loaded, swapped or removed, or loading it failed.
    PolicyLoad,
    /// The files of a policy do not match its manifest.
    Tamper,
    /// The settings were reloaded.
    Settings,
    /// A signer was added, retired or removed.
    Signer,
    /// A signer took over from another; both signed the rotation.
    SignerRotation,
    /// A host started or stopped.
    Host,
    /// The clock of a host went back.
    Clock,
    /// Events were lost: `detail.count` of them.
    Lost,
}

impl Kind {
    /// The name of the kind, as in the JSON form of an event.
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

    /// Whether gates send events of this kind; only hosts record the others.
    #[must_use]
    pub fn is_sent_by_gates(self) -> bool {
        matches!(self, Self::Admission | Self::Request | Self::Lost)
    }
}

/// The decision or result that an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Allowed, or done.
    Allowed,
    /// Denied.
    Denied,
    /// The decision or the operation failed.
    Failed,
}

impl Decision {
    /// The name of the decision, as in the JSON form of an event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}
