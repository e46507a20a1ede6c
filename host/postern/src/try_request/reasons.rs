//! Describes each denial reason for the operator. The client sees less.

use postern_gate::Reason;

/// The check that a reason belongs to.
pub(super) fn check(reason: Reason) -> &'static str {
    use Reason as R;
    match reason {
        R::NoRule | R::MethodAmbiguous | R::PathAmbiguous | R::HostAmbiguous | R::ConnectionAmbiguous => {
            "rule"
        }
        R::RoleMissing | R::ClaimMismatch => "authorized",
        R::LimitExceeded | R::LimitUnavailable => "limit",
        R::PolicyDenied | R::PolicyFailed | R::PolicyUnavailable => "policy",
        R::AuditUnavailable => "audit",
        R::GateFailed => "gate",
        _ => "authenticated",
    }
}

/// The reason in one sentence.
pub(super) fn description(reason: Reason) -> &'static str {
    use Reason as R;
    match reason {
        R::NoRule => "no rule matches this method, host and path, and unmatched requests are denied",
        R::MethodAmbiguous => "the method is not in upper case: servers differ in how they treat post",
        R::PathAmbiguous => {
            "two parsers could read the path differently: dot or empty segments, encoded slashes, a fragment"
        }
        R::HostAmbiguous => "the host is missing, given twice, or ambiguous",
        R::ConnectionAmbiguous => {
            "the Connection header names an end-to-end header: a server behind the gate might drop it"
        }
        R::CredentialsMissing => "the request carries none of the credentials that the rule accepts",
        R::CredentialsAmbiguous => "a credential is given twice, or two of them in one header",
        R::TokenMalformed => {
            "the token is not a JSON Web Token in compact form, or a claim has the wrong type"
        }
        R::TokenTooLarge => "the token is longer than 16 KiB",
        R::TokenAlgorithm => "the token's alg is not one of the issuer's algorithms",
        R::TokenCritical => "the token's header has crit, and no extension is supported",
        R::TokenIssuer => "the token's iss is not exactly one of the issuers that the rule accepts",
        R::TokenAudience => {
            "the token's aud names none of the issuer's audiences: it was issued for another service"
        }
        R::TokenExpired => "the token's exp has passed, leeway included",
        R::TokenNotYetValid => "the token's nbf or iat is in the future, beyond the leeway: check the clocks",
        R::TokenExpiryMissing => "the token has no exp, and the issuer does not set expiry: optional",
        R::TokenSubjectMissing => "the token lacks the claim that names the caller: subject_claim",
        R::TokenKeyUnknown => "the issuer's keys include none with the token's kid and alg",
        R::TokenSignature => "the token was not signed by the issuer's key, or was changed",
        R::KeysUnavailable => "the issuer's keys are not available, so the token cannot be verified",
        R::ApiKeyUnknown => "no digest in the configuration matches this key",
        R::ApiKeyExpired => "the key's not_after has passed",
        R::SignatureMalformed => "a header of the signature is missing or malformed",
        R::SignatureKeyUnknown => "the scheme has no key with this id",
        R::SignatureMismatch => {
            "the signature does not match this method, target and body under the shared secret"
        }
        R::SignatureSkew => "the signature's timestamp differs from the gate's clock by more than max_skew",
        R::SignatureReplayed => "the nonce was used before",
        R::ReplayMemoryFull => {
            "the key has used as many nonces as are kept, and none is evicted before it expires"
        }
        R::BodyTooLarge => "the body is larger than the scheme's max_body or the policy's body limit",
        R::UpgradeRefused => {
            "the rule must read the whole body, and an upgraded connection (WebSocket, CONNECT) has no end"
        }
        R::RoleMissing => "the caller has none of the roles that the rule requires",
        R::ClaimMismatch => "a claim that the rule requires is missing or has another value",
        R::LimitExceeded => "the limit is used up for now",
        R::LimitUnavailable => "the limit could not be counted",
        R::PolicyDenied => "the policy denied the request",
        R::PolicyFailed => "the policy could not decide, or its decision is invalid",
        R::PolicyUnavailable => "the policy host could not be reached in time, and on_error is deny",
        R::AuditUnavailable => "the rule requires the audit log, which did not record the request in time",
        R::GateFailed => "the gate could not decide: please report this",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_description() {
        let mut descriptions: Vec<_> = Reason::ALL.iter().map(|reason| description(*reason)).collect();
        descriptions.sort_unstable();
        descriptions.dedup();
        assert_eq!(descriptions.len(), Reason::ALL.len());
    }

    #[test]
    fn a_401_is_always_about_authentication() {
        for reason in Reason::ALL {
            if reason.status() == 401 {
                assert_eq!(check(reason), "authenticated", "{reason:?}");
            }
        }
    }
}
