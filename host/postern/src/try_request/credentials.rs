//! The credentials that a rule accepts.

use postern_gate::config::{Config, Rule, Signature};

/// The credentials that a rule accepts, and how each is sent.
pub(super) fn accepted(config: &Config, rule: &Rule) -> Vec<String> {
    let entries = rule
        .authenticate
        .iter()
        .flat_map(|authenticate| &authenticate.any);
    entries
        .filter_map(|entry| Some(format!("{entry} ({})", carrier(config, entry)?)))
        .collect()
}

fn carrier(config: &Config, entry: &str) -> Option<String> {
    let (kind, name) = entry.split_once('/')?;
    match kind {
        "issuers" => Some("authorization: Bearer <token>".to_owned()),
        "api_keys" => Some(format!("{}: <key>", config.api_keys.get(name)?.header.0)),
        _ => Some(match config.signatures.get(name)? {
            Signature::Github { .. } => "postern sign-request --scheme github".to_owned(),
            Signature::Keyed { header_prefix, .. } => format!(
                "postern sign-request --scheme keyed --header-prefix {}",
                header_prefix.0
            ),
        }),
    }
}
