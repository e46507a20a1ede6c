//! What each refusal means, for whoever has to mend it. A client is told less.

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

/// The reason in a sentence.
pub(super) fn description(reason: Reason) -> &'static str {
    use Reason as R;
    match reason {
        R::NoRule => "no rule matches this method, host and path, and what no rule matches is refused",
        R::MethodAmbiguous => "the method is none in upper case: servers differ in what they take post for",
        R::PathAmbiguous => {
            "two parsers could read the path differently: dot or empty segments, encoded slashes, a fragment"
        }
        R::HostAmbiguous => "the host is missing, given twice, or cannot be read in one way only",
        R::ConnectionAmbiguous => {
            "the Connection header names a header that is not the connection's: a server behind the gate might drop it"
        }
        R::CredentialsMissing => "the request carries none of the credentials that the rule takes",
        R::CredentialsAmbiguous => "a credential comes twice, or two of them in one header",
        R::TokenMalformed => {
            "the token is no JSON Web Token in compact form, or a claim is of the wrong type"
        }
        R::TokenTooLarge => "the token is longer than 16 KiB",
        R::TokenAlgorithm => "the token's alg is none of the issuer's algorithms",
        R::TokenCritical => "the token's header holds crit, and no extension is understood",
        R::TokenIssuer => "the token's iss is none of the issuers that the rule takes, letter by letter",
        R::TokenAudience => {
            "the token's aud names none of the issuer's audiences: it was made for another service"
        }
        R::TokenExpired => "the token's exp has passed, leeway included",
        R::TokenNotYetValid => {
            "the token's nbf or iat lies in the future, beyond the leeway: do the clocks agree?"
        }
        R::TokenExpiryMissing => "the token has no exp, and the issuer does not say expiry: optional",
        R::TokenSubjectMissing => "the token lacks the claim that names the caller: subject_claim",
        R::TokenKeyUnknown => "the issuer's keys hold none with the token's kid and alg",
        R::TokenSignature => "the token was not signed by the issuer's key, or was changed",
        R::KeysUnavailable => "the issuer's keys are not there, so that the token cannot be judged",
        R::ApiKeyUnknown => "no digest in the configuration is that of this key",
        R::ApiKeyExpired => "the key's not_after has passed",
        R::SignatureMalformed => "one of the signature's headers is missing or is not of its form",
        R::SignatureKeyUnknown => "the scheme has no key with this id",
        R::SignatureMismatch => {
            "the signature is not that of this method, target and body under the shared secret"
        }
        R::SignatureSkew => "the signature's timestamp is further from the gate's clock than max_skew",
        R::SignatureReplayed => "the nonce came before",
        R::ReplayMemoryFull => "the key has used as many nonces as are kept, and none of them is given up",
        R::BodyTooLarge => "the body is larger than the scheme's max_body, or than what the policy is shown",
        R::UpgradeRefused => {
            "the rule must read the whole body, and an upgraded connection (WebSocket, CONNECT) has none that ends"
        }
        R::RoleMissing => "the caller has none of the roles that the rule asks for",
        R::ClaimMismatch => "a claim that the rule asks for is missing or has another value",
        R::LimitExceeded => "the limit is used up for now",
        R::LimitUnavailable => "the limit could not be counted",
        R::PolicyDenied => "the policy does not allow it",
        R::PolicyFailed => "the policy could not decide, or its answer makes no sense",
        R::PolicyUnavailable => "the policy host could not be reached in time, and on_error is deny",
        R::AuditUnavailable => {
            "the rule requires the audit log, which could not be told of the request in time"
        }
        R::GateFailed => "the gate could not decide: please report this",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_once() {
        let mut sentences: Vec<_> = Reason::ALL.iter().map(|reason| description(*reason)).collect();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), Reason::ALL.len());
    }

    #[test]
    fn reasons_that_no_credential_mends_are_no_401() {
        for reason in Reason::ALL {
            if reason.status() == 401 {
                assert_eq!(check(reason), "authenticated", "{reason:?}");
            }
        }
    }
}
