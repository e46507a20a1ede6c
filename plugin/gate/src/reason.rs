//! Why a request was refused: exactly, for operators, and in public, for clients.

/// The exact reason of a refusal. It names a metric, the response-code details and the audit record; a client
/// sees only its [`code`](Reason::code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table below and docs/failures.md describe each")]
pub enum Reason {
    NoRule,
    MethodAmbiguous,
    PathAmbiguous,
    HostAmbiguous,
    ConnectionAmbiguous,
    CredentialsMissing,
    CredentialsAmbiguous,
    TokenMalformed,
    TokenTooLarge,
    TokenAlgorithm,
    TokenCritical,
    TokenIssuer,
    TokenAudience,
    TokenExpired,
    TokenNotYetValid,
    TokenExpiryMissing,
    TokenSubjectMissing,
    TokenKeyUnknown,
    TokenSignature,
    KeysUnavailable,
    ApiKeyUnknown,
    ApiKeyExpired,
    SignatureMalformed,
    SignatureKeyUnknown,
    SignatureMismatch,
    SignatureSkew,
    SignatureReplayed,
    ReplayMemoryFull,
    BodyTooLarge,
    UpgradeRefused,
    RoleMissing,
    ClaimMismatch,
    LimitExceeded,
    LimitUnavailable,
    PolicyDenied,
    PolicyFailed,
    PolicyUnavailable,
    AuditUnavailable,
    GateFailed,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 39] = [
        Self::NoRule,
        Self::MethodAmbiguous,
        Self::PathAmbiguous,
        Self::HostAmbiguous,
        Self::ConnectionAmbiguous,
        Self::CredentialsMissing,
        Self::CredentialsAmbiguous,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::TokenAlgorithm,
        Self::TokenCritical,
        Self::TokenIssuer,
        Self::TokenAudience,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenExpiryMissing,
        Self::TokenSubjectMissing,
        Self::TokenKeyUnknown,
        Self::TokenSignature,
        Self::KeysUnavailable,
        Self::ApiKeyUnknown,
        Self::ApiKeyExpired,
        Self::SignatureMalformed,
        Self::SignatureKeyUnknown,
        Self::SignatureMismatch,
        Self::SignatureSkew,
        Self::SignatureReplayed,
        Self::ReplayMemoryFull,
        Self::BodyTooLarge,
        Self::UpgradeRefused,
        Self::RoleMissing,
        Self::ClaimMismatch,
        Self::LimitExceeded,
        Self::LimitUnavailable,
        Self::PolicyDenied,
        Self::PolicyFailed,
        Self::PolicyUnavailable,
        Self::AuditUnavailable,
        Self::GateFailed,
    ];

    /// The exact reason's name, for operators.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The code a client sees. Coarser than the reason where the difference would help an attacker: which part
    /// of a token or signature was wrong.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status: 503 where the gate could not decide, so that a client can tell "you may not" from "ask again".
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// The code in a sentence, for clients that are shown no more than a text.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self.code() {
            "no_rule" => "no rule lets this request pass",
            "method_ambiguous" => "the method can be read in more than one way",
            "path_ambiguous" => "the path can be read in more than one way",
            "host_ambiguous" => "the host can be read in more than one way",
            "connection_ambiguous" => "the Connection header names a header that is not the connection's",
            "credentials_missing" => "the request carries no credential that is accepted here",
            "credentials_ambiguous" => "a credential comes twice",
            "token_invalid" => "the token is not valid here",
            "token_expired" => "the token has expired",
            "token_not_yet_valid" => "the token is not valid yet",
            "keys_unavailable" => "the keys to verify the token with are not available",
            "key_invalid" => "the API key is not valid",
            "signature_invalid" => "the signature is not valid",
            "body_too_large" => "the body is too large",
            "upgrade_refused" => "the body must be read as a whole, and an upgraded connection has none",
            "role_missing" => "the caller has none of the roles that this takes",
            "claim_mismatch" => "the caller's token does not hold the claims that this takes",
            "limit_exceeded" => "the limit is exceeded: try again later",
            "limit_unavailable" => "a limit could not be counted: try again",
            "replay_memory_full" => {
                "the key has signed more requests than can be told apart: try again later"
            }
            "policy_denied" => "the policy does not allow this request",
            "policy_failed" => "the policy could not decide: try again",
            "policy_unavailable" => "the policy could not be asked: try again",
            "audit_unavailable" => "the request could not be recorded: try again",
            _ => "the request could not be decided on: try again",
        }
    }

    fn row(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::NoRule => ("no_rule", "no_rule", 403),
            Self::MethodAmbiguous => ("method_ambiguous", "method_ambiguous", 400),
            Self::PathAmbiguous => ("path_ambiguous", "path_ambiguous", 400),
            Self::HostAmbiguous => ("host_ambiguous", "host_ambiguous", 400),
            Self::ConnectionAmbiguous => ("connection_ambiguous", "connection_ambiguous", 400),
            Self::CredentialsMissing => ("credentials_missing", "credentials_missing", 401),
            Self::CredentialsAmbiguous => ("credentials_ambiguous", "credentials_ambiguous", 401),
            Self::TokenMalformed => ("token_malformed", "token_invalid", 401),
            Self::TokenTooLarge => ("token_too_large", "token_invalid", 401),
            Self::TokenAlgorithm => ("token_algorithm", "token_invalid", 401),
            Self::TokenCritical => ("token_critical", "token_invalid", 401),
            Self::TokenIssuer => ("token_issuer", "token_invalid", 401),
            Self::TokenAudience => ("token_audience", "token_invalid", 401),
            Self::TokenExpired => ("token_expired", "token_expired", 401),
            Self::TokenNotYetValid => ("token_not_yet_valid", "token_not_yet_valid", 401),
            Self::TokenExpiryMissing => ("token_expiry_missing", "token_invalid", 401),
            Self::TokenSubjectMissing => ("token_subject_missing", "token_invalid", 401),
            Self::TokenKeyUnknown => ("token_key_unknown", "token_invalid", 401),
            Self::TokenSignature => ("token_signature", "token_invalid", 401),
            Self::KeysUnavailable => ("keys_unavailable", "keys_unavailable", 503),
            Self::ApiKeyUnknown => ("key_unknown", "key_invalid", 401),
            Self::ApiKeyExpired => ("key_expired", "key_invalid", 401),
            Self::SignatureMalformed => ("signature_malformed", "signature_invalid", 401),
            Self::SignatureKeyUnknown => ("signature_key_unknown", "signature_invalid", 401),
            Self::SignatureMismatch => ("signature_mismatch", "signature_invalid", 401),
            Self::SignatureSkew => ("signature_skew", "signature_invalid", 401),
            Self::SignatureReplayed => ("signature_replayed", "signature_invalid", 401),
            Self::ReplayMemoryFull => ("replay_memory_full", "replay_memory_full", 503),
            Self::BodyTooLarge => ("body_too_large", "body_too_large", 413),
            Self::UpgradeRefused => ("upgrade_refused", "upgrade_refused", 400),
            Self::RoleMissing => ("role_missing", "role_missing", 403),
            Self::ClaimMismatch => ("claim_mismatch", "claim_mismatch", 403),
            Self::LimitExceeded => ("limit_exceeded", "limit_exceeded", 429),
            Self::LimitUnavailable => ("limit_unavailable", "limit_unavailable", 503),
            Self::PolicyDenied => ("policy_denied", "policy_denied", 403),
            Self::PolicyFailed => ("policy_failed", "policy_failed", 503),
            Self::PolicyUnavailable => ("policy_unavailable", "policy_unavailable", 503),
            Self::AuditUnavailable => ("audit_unavailable", "audit_unavailable", 503),
            Self::GateFailed => ("gate_failed", "gate_failed", 503),
        }
    }
}
