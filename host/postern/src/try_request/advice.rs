//! What to do about a refusal.

use postern_gate::Reason;
use postern_gate::config::{Issuer, Rule};

use super::caller;
use crate::load::Loaded;

/// What an advice is made from.
pub(super) struct Case<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) rule: Option<&'a Rule>,
    /// The issuer whose keys were asked for, by index.
    pub(super) wanted_keys: Option<usize>,
    /// The issuers whose keys were given.
    pub(super) jwks: &'a [(String, String)],
}

/// The next steps after a refusal, if more can be said than the reason does.
pub(super) fn advice(reason: Reason, case: &Case<'_>) -> Vec<String> {
    let loaded = case.loaded;
    match (reason, case.rule) {
        (Reason::KeysUnavailable | Reason::TokenKeyUnknown, _) => missing_keys(case).into_iter().collect(),
        (Reason::CredentialsMissing, Some(rule)) => {
            let ways = caller::ways_in(&loaded.config, rule);
            vec![format!("the rule takes {}", ways.join(", or "))]
        }
        (Reason::RoleMissing | Reason::ClaimMismatch, Some(rule)) => {
            vec![format!("the rule asks for {}", asked(rule))]
        }
        (Reason::SignatureMismatch | Reason::TokenSignature, _) => {
            let unset = loaded.unset.iter();
            unset
                .map(|problem| {
                    let message = &problem.message;
                    let what = message.split_once(';').map_or(message.as_str(), |(what, _)| what);
                    format!(
                        "{}: {what}, so that nothing signed with it is accepted",
                        problem.path
                    )
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The keys that the filter would fetch, unless they were given.
fn missing_keys(case: &Case<'_>) -> Option<String> {
    let wanted = case.wanted_keys?;
    let is_wanted = |(name, _): &(&String, &Issuer)| case.loaded.gate.issuer_index(name) == Some(wanted);
    let (name, issuer) = case.loaded.config.issuers.iter().find(is_wanted)?;
    if case.jwks.iter().any(|(given, _)| given == name) {
        return None;
    }
    let uri = issuer.jwks.as_ref()?.uri.as_deref()?;
    Some(format!(
        "the filter fetches the keys from {uri}; pass --jwks {name}=FILE to try with keys"
    ))
}

/// What a rule asks of its callers.
pub(super) fn asked(rule: &Rule) -> String {
    let Some(authorize) = &rule.authorize else {
        return String::new();
    };
    let mut asked = Vec::new();
    if !authorize.roles.is_empty() {
        asked.push(format!("one of the roles {}", authorize.roles.join(", ")));
    }
    asked.extend(
        authorize
            .claims
            .iter()
            .map(|(path, value)| format!("claim {path} = {value}")),
    );
    asked.join(" and ")
}
