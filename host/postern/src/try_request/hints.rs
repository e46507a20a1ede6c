//! Hints on how to resolve a denial.

use postern_gate::config::{Issuer, Rule};
use postern_gate::{IssuerId, Reason};

use super::credentials;
use crate::load::Loaded;

/// The input from which hints are derived.
pub(super) struct HintContext<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) rule: Option<&'a Rule>,
    /// The issuer whose keys the request needed.
    pub(super) wanted_keys: Option<IssuerId>,
    /// The issuers and key files of `--jwks`.
    pub(super) jwks: &'a [(String, String)],
}

/// The next steps after a denial, beyond the reason's description.
pub(super) fn hints(reason: Reason, context: &HintContext<'_>) -> Vec<String> {
    let loaded = context.loaded;
    match (reason, context.rule) {
        (Reason::KeysUnavailable | Reason::TokenKeyUnknown, _) => missing_keys(context).into_iter().collect(),
        (Reason::CredentialsMissing, Some(rule)) => {
            let accepted = credentials::accepted(&loaded.config, rule);
            vec![format!("the rule accepts {}", accepted.join(", or "))]
        }
        (Reason::RoleMissing | Reason::ClaimMismatch, Some(rule)) => {
            vec![format!("the rule requires {}", requirements(rule))]
        }
        (Reason::SignatureMismatch | Reason::TokenSignature, _) => {
            let unset = loaded.unset_secrets.iter();
            unset
                .map(|problem| {
                    let message = &problem.message;
                    let what = message.split_once(';').map_or(message.as_str(), |(what, _)| what);
                    format!(
                        "{}: {what}, so no signature made with it is accepted",
                        problem.path
                    )
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A hint if the filter would fetch keys that were not given.
fn missing_keys(context: &HintContext<'_>) -> Option<String> {
    let wanted = context.wanted_keys?;
    let is_wanted = |(name, _): &(&String, &Issuer)| context.loaded.gate.issuer(name) == Some(wanted);
    let (name, issuer) = context.loaded.config.issuers.iter().find(is_wanted)?;
    if context.jwks.iter().any(|(given, _)| given == name) {
        return None;
    }
    let uri = issuer.jwks.as_ref()?.uri.as_deref()?;
    Some(format!(
        "the filter fetches the keys from {uri}; pass --jwks {name}=FILE to use them here"
    ))
}

/// What a rule requires of its callers.
pub(super) fn requirements(rule: &Rule) -> String {
    let Some(authorize) = &rule.authorize else {
        return String::new();
    };
    let mut requirements = Vec::new();
    if !authorize.roles.is_empty() {
        requirements.push(format!("one of the roles {}", authorize.roles.join(", ")));
    }
    requirements.extend(
        authorize
            .claims
            .iter()
            .map(|(path, value)| format!("claim {path} = {value}")),
    );
    requirements.join(" and ")
}
