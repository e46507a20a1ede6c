//! The reasons of refusals: exact ones for operators, and public codes for clients.

/// What a client is shown of a reason.
struct Code {
    name: &'static str,
    /// 503 where the gate could not decide, so that a client can tell a refusal from a failure.
    status: u16,
    /// For clients that are shown text only.
    sentence: &'static str,
}

macro_rules! codes {
    ($($code:ident = $name:literal, $status:literal, $sentence:literal;)+) => {
        $(const $code: Code = Code { name: $name, status: $status, sentence: $sentence };)+
    };
}

codes! {
    NO_RULE = "no_rule", 403, "no rule admits this request";
    METHOD_AMBIGUOUS = "method_ambiguous", 400, "the method can be read in more than one way";
    PATH_AMBIGUOUS = "path_ambiguous", 400, "the path can be read in more than one way";
    HOST_AMBIGUOUS = "host_ambiguous", 400, "the host can be read in more than one way";
    CONNECTION_AMBIGUOUS = "connection_ambiguous", 400, "the Connection header names an end-to-end header";
    CREDENTIALS_MISSING = "credentials_missing", 401, "the request has no credential that is accepted here";
    CREDENTIALS_AMBIGUOUS = "credentials_ambiguous", 401, "the request has a credential twice";
    TOKEN_INVALID = "token_invalid", 401, "the token is not valid here";
    TOKEN_EXPIRED = "token_expired", 401, "the token has expired";
    TOKEN_NOT_YET_VALID = "token_not_yet_valid", 401, "the token is not valid yet";
    KEYS_UNAVAILABLE = "keys_unavailable", 503, "the keys to verify the token are not available: try again later";
    KEY_INVALID = "key_invalid", 401, "the API key is not valid";
    SIGNATURE_INVALID = "signature_invalid", 401, "the signature is not valid";
    REPLAY_MEMORY_FULL = "replay_memory_full", 503, "the key has signed too many requests: try again later";
    BODY_TOO_LARGE = "body_too_large", 413, "the body is too large";
    UPGRADE_REFUSED = "upgrade_refused", 400, "the whole body is required, and an upgraded connection has none";
    ROLE_MISSING = "role_missing", 403, "the caller has none of the required roles";
    CLAIM_MISMATCH = "claim_mismatch", 403, "the caller's token does not have the required claims";
    LIMIT_EXCEEDED = "limit_exceeded", 429, "the limit is exceeded: try again later";
    LIMIT_UNAVAILABLE = "limit_unavailable", 503, "a limit could not be counted: try again later";
    POLICY_DENIED = "policy_denied", 403, "the policy does not allow this request";
    POLICY_FAILED = "policy_failed", 503, "the policy could not decide: try again later";
    POLICY_UNAVAILABLE = "policy_unavailable", 503, "the policy is unavailable: try again later";
    AUDIT_UNAVAILABLE = "audit_unavailable", 503, "the request could not be recorded: try again later";
    GATE_FAILED = "gate_failed", 503, "the request could not be evaluated: try again later";
}

macro_rules! reasons {
    ($($reason:ident = $name:literal, $code:ident;)+) => {
        /// The exact reason of a refusal. It is the name of a metric, and part of the response-code details and the
        /// audit event; a client sees only its [`code`](Reason::code). `docs/failures.md` describes each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names say it, and docs/failures.md describes each")]
        pub enum Reason {
            $($reason,)+
        }

        impl Reason {
            /// Every reason, for tables and tests.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$reason),+];

            /// The exact reason's name, for operators.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }

            fn public(self) -> Code {
                match self {
                    $(Self::$reason => $code,)+
                }
            }
        }
    };
}

// In the order of the stages.
reasons! {
    NoRule = "no_rule", NO_RULE;
    MethodAmbiguous = "method_ambiguous", METHOD_AMBIGUOUS;
    PathAmbiguous = "path_ambiguous", PATH_AMBIGUOUS;
    HostAmbiguous = "host_ambiguous", HOST_AMBIGUOUS;
    ConnectionAmbiguous = "connection_ambiguous", CONNECTION_AMBIGUOUS;
    CredentialsMissing = "credentials_missing", CREDENTIALS_MISSING;
    CredentialsAmbiguous = "credentials_ambiguous", CREDENTIALS_AMBIGUOUS;
    TokenMalformed = "token_malformed", TOKEN_INVALID;
    TokenTooLarge = "token_too_large", TOKEN_INVALID;
    TokenAlgorithm = "token_algorithm", TOKEN_INVALID;
    TokenCritical = "token_critical", TOKEN_INVALID;
    TokenIssuer = "token_issuer", TOKEN_INVALID;
    TokenAudience = "token_audience", TOKEN_INVALID;
    TokenExpired = "token_expired", TOKEN_EXPIRED;
    TokenNotYetValid = "token_not_yet_valid", TOKEN_NOT_YET_VALID;
    TokenExpiryMissing = "token_expiry_missing", TOKEN_INVALID;
    TokenSubjectMissing = "token_subject_missing", TOKEN_INVALID;
    TokenKeyUnknown = "token_key_unknown", TOKEN_INVALID;
    TokenSignature = "token_signature", TOKEN_INVALID;
    KeysUnavailable = "keys_unavailable", KEYS_UNAVAILABLE;
    ApiKeyUnknown = "key_unknown", KEY_INVALID;
    ApiKeyExpired = "key_expired", KEY_INVALID;
    SignatureMalformed = "signature_malformed", SIGNATURE_INVALID;
    SignatureKeyUnknown = "signature_key_unknown", SIGNATURE_INVALID;
    SignatureMismatch = "signature_mismatch", SIGNATURE_INVALID;
    SignatureSkew = "signature_skew", SIGNATURE_INVALID;
    SignatureReplayed = "signature_replayed", SIGNATURE_INVALID;
    ReplayMemoryFull = "replay_memory_full", REPLAY_MEMORY_FULL;
    BodyTooLarge = "body_too_large", BODY_TOO_LARGE;
    UpgradeRefused = "upgrade_refused", UPGRADE_REFUSED;
    RoleMissing = "role_missing", ROLE_MISSING;
    ClaimMismatch = "claim_mismatch", CLAIM_MISMATCH;
    LimitExceeded = "limit_exceeded", LIMIT_EXCEEDED;
    LimitUnavailable = "limit_unavailable", LIMIT_UNAVAILABLE;
    PolicyDenied = "policy_denied", POLICY_DENIED;
    PolicyFailed = "policy_failed", POLICY_FAILED;
    PolicyUnavailable = "policy_unavailable", POLICY_UNAVAILABLE;
    AuditUnavailable = "audit_unavailable", AUDIT_UNAVAILABLE;
    GateFailed = "gate_failed", GATE_FAILED;
}

impl Reason {
    /// The code that a client sees. Coarser than the reason where the difference would help an attacker: which part of a
    /// token or signature was invalid.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.public().name
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.public().status
    }

    /// The code as a sentence, for clients that are shown text only.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        self.public().sentence
    }
}
