//! The caller as it is sent to policies.

use std::rc::Rc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::identity::{CredentialKind, Identity};

#[derive(Serialize)]
struct CallerJson<'a> {
    subject: &'a str,
    issuer: &'a str,
    method: &'static str,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    claims: &'a Map<String, Value>,
}

/// The caller as JSON: `{"subject", "issuer", "method", "roles", "tenant", "claims"}`. Created once for
/// each identity, when a policy is first called.
pub(crate) fn identity_json(identity: &Identity) -> Rc<str> {
    let encode = || {
        let caller = CallerJson {
            subject: &identity.subject,
            issuer: identity.entry(),
            method: match identity.method {
                CredentialKind::Jwt => "jwt",
                CredentialKind::ApiKey => "api_key",
                CredentialKind::Signature => "signature",
            },
            roles: &identity.roles,
            tenant: identity.tenant.as_deref(),
            claims: &identity.claims,
        };
        serde_json::to_string(&caller).unwrap_or_default().into()
    };
    Rc::clone(identity.policy_json.get_or_init(encode))
}
