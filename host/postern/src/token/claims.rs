//! Builds the claims of a token.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// The requested claims.
pub(super) struct ClaimOptions<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a [String],
    pub(super) subject: &'a str,
    pub(super) roles: &'a [String],
    pub(super) roles_claim: &'a str,
    pub(super) more: &'a [(String, Value)],
    pub(super) now: Duration,
    pub(super) ttl: Duration,
}

/// Parses `NAME=JSON`; a value that is not JSON is a string.
pub(super) fn parse(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=VALUE, such as tenant=acme or level=3")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

pub(super) fn build(options: &ClaimOptions<'_>) -> Map<String, Value> {
    let now = options.now.as_secs();
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", options.issuer.into());
    match options.audience {
        [one] => set("aud", one.as_str().into()),
        several => set("aud", json!(several)),
    };
    set("sub", options.subject.into());
    set("iat", now.into());
    set("nbf", now.into());
    set("exp", now.saturating_add(options.ttl.as_secs()).into());
    if !options.roles.is_empty() {
        set_path(&mut claims, options.roles_claim, json!(options.roles));
    }
    for (name, value) in options.more {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// Sets a claim by its dotted path. As in the gate, a URL is a single name, despite its dots.
fn set_path(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.').filter(|_| !path.contains("://")) {
        None => {
            claims.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let mut inner = Map::new();
            set_path(&mut inner, rest, value);
            claims.insert(first.to_owned(), Value::Object(inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_follow_the_options() {
        let more = [parse("tenant=acme"), parse("level=3"), parse("nbf=null")].map(Result::unwrap);
        let claims = build(&ClaimOptions {
            issuer: "i",
            audience: &["a".into()],
            subject: "s",
            roles: &["x".into(), "y".into()],
            roles_claim: "realm_access.roles",
            more: &more,
            now: Duration::from_secs(100),
            ttl: Duration::from_secs(60),
        });
        assert_eq!(
            Value::Object(claims),
            json!({"iss": "i", "aud": "a", "sub": "s", "iat": 100, "exp": 160, "tenant": "acme", "level": 3,
                   "realm_access": {"roles": ["x", "y"]}})
        );
    }

    #[test]
    fn a_claim_needs_a_name() {
        assert!(parse("=1").is_err() && parse("x").is_err());
        assert_eq!(parse("a={\"b\":[1]}").unwrap(), ("a".into(), json!({"b": [1]})));
    }

    #[test]
    fn a_url_is_a_single_claim_name() {
        let mut claims = Map::new();
        set_path(&mut claims, "https://x.example/roles", json!(["a"]));
        assert_eq!(Value::Object(claims), json!({"https://x.example/roles": ["a"]}));
    }
}
