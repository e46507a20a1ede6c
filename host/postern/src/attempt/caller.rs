//! Which of a rule's ways in let a caller pass.

use ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use postern_gate::config::{Config, Rule, Signature};
use serde_json::Value;

use super::request::OwnedRequest;

/// The issuer of the token that the gate has verified, as `issuers/<name>`; the gate only tells that a token did it.
pub(super) fn issuer(config: &Config, rule: &Rule, request: &OwnedRequest) -> Option<String> {
    let token = request.single("authorization")?.split_once(' ')?.1.trim();
    let payload = token.split('.').nth(1)?;
    let payload = Base64UrlSafeNoPadding::decode_to_vec(payload, None).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let named = claims.get("iss")?.as_str()?;
    let mut ways = rule
        .authenticate
        .iter()
        .flat_map(|authenticate| &authenticate.any);
    ways.find(|way| {
        let issuer = way
            .strip_prefix("issuers/")
            .and_then(|name| config.issuers.get(name));
        issuer.is_some_and(|issuer| issuer.issuer == named)
    })
    .cloned()
}

/// What a rule takes for a credential, and how it is sent.
pub(super) fn ways_in(config: &Config, rule: &Rule) -> Vec<String> {
    let ways = rule
        .authenticate
        .iter()
        .flat_map(|authenticate| &authenticate.any);
    ways.filter_map(|way| Some(format!("{way} ({})", carrier(config, way)?)))
        .collect()
}

fn carrier(config: &Config, way: &str) -> Option<String> {
    let (kind, name) = way.split_once('/')?;
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
