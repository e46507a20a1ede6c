//! Who is calling, once that is certain, and how the upstream is told.

use std::cell::OnceCell;
use std::rc::Rc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::config::IdentityHeader;

/// The prefix of the gate's own identity headers; whatever a client sends under it is stripped.
pub const HEADER_PREFIX: &str = "x-postern-";

/// What a header value cannot hold, and what would make a list or an escape ambiguous.
const ESCAPED: &AsciiSet = &CONTROLS.add(b',').add(b'%');

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A JSON Web Token.
    Jwt,
    /// An API key.
    ApiKey,
    /// A signature over the request.
    Signature,
}

impl Method {
    /// The value of `x-postern-method`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api-key",
            Self::Signature => "signature",
        }
    }
}

/// A caller whose credential was verified. Made nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub subject: String,
    /// Proved how.
    pub method: Method,
    /// What the caller may do.
    pub roles: Vec<String>,
    /// To which tenant the caller belongs.
    pub tenant: Option<String>,
    /// The token's claims; empty for other credentials.
    pub(crate) claims: Map<String, Value>,
    /// What limits by subject count apart: a subject is unique only within the entry that vouches for it.
    pub(crate) key: String,
    /// What a policy is told of the caller, once one has asked.
    pub(crate) told: OnceCell<Rc<str>>,
    /// The headers for the upstream, made once.
    headers: Vec<(String, String)>,
}

impl Identity {
    /// `entry` is what vouched for the caller: `issuers/<name>` and so on.
    pub(crate) fn new(
        entry: &str,
        subject: String,
        method: Method,
        roles: Vec<String>,
        tenant: Option<String>,
        claims: Map<String, Value>,
        extra_headers: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut headers = vec![
            (IdentityHeader::Subject.name().to_owned(), escape(&subject)),
            (IdentityHeader::Method.name().to_owned(), method.name().to_owned()),
        ];
        if !roles.is_empty() {
            let list: Vec<_> = roles.iter().map(|role| escape(role)).collect();
            headers.push((IdentityHeader::Roles.name().to_owned(), list.join(",")));
        }
        if let Some(tenant) = &tenant {
            headers.push((IdentityHeader::Tenant.name().to_owned(), escape(tenant)));
        }
        headers.extend(
            extra_headers
                .into_iter()
                .map(|(name, value)| (name, escape(&value))),
        );
        Self {
            key: format!("{entry}\n{subject}"),
            told: OnceCell::new(),
            subject,
            method,
            roles,
            tenant,
            claims,
            headers,
        }
    }

    /// The same caller, of whom the upstream is told no more than `told` and the configured claims.
    pub(crate) fn telling(mut self, told: &[IdentityHeader]) -> Self {
        let withheld = IdentityHeader::ALL.map(|header| (!told.contains(&header)).then(|| header.name()));
        self.headers
            .retain(|(name, _)| !withheld.contains(&Some(name.as_str())));
        self
    }

    /// The headers that tell the upstream who is calling. Values are UTF-8 percent-encoded where they hold control
    /// characters, commas, percent signs or anything outside ASCII.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// What vouched for the caller: `issuers/<name>` and so on.
    pub(crate) fn entry(&self) -> &str {
        self.key.split_once('\n').map_or("", |(entry, _)| entry)
    }

    pub(crate) fn has_any_role(&self, wanted: &[String]) -> bool {
        self.roles.iter().any(|role| wanted.contains(role))
    }
}

fn escape(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// The value at a claim path such as `realm_access.roles`. A claim whose own name holds the dots is found first.
pub(crate) fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// A claim's text, if it is text, a number or a boolean.
pub(crate) fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A claim's texts: a list's items, or the words of one string, as OAuth's `scope` has them.
pub(crate) fn claim_list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(claim_text).collect(),
        Value::String(words) => words.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subject_cannot_smuggle_a_header_or_a_role() {
        let roles = vec!["a,Admin".to_owned(), "b".to_owned()];
        let identity = Identity::new(
            "issuers/i",
            "eve\r\nx-admin: é%".into(),
            Method::Jwt,
            roles,
            None,
            Map::new(),
            [],
        );
        assert_eq!(
            identity.headers(),
            [
                (
                    "x-postern-subject".to_owned(),
                    "eve%0D%0Ax-admin: %C3%A9%25".to_owned()
                ),
                ("x-postern-method".to_owned(), "jwt".to_owned()),
                ("x-postern-roles".to_owned(), "a%2CAdmin,b".to_owned()),
            ]
        );
    }

    #[test]
    fn claims_by_path() {
        let claims =
            json!({"realm_access": {"roles": ["a", 1]}, "https://x.example/roles": "b c", "scope": "d e"});
        let claims = claims.as_object().unwrap();
        let list = |path: &str| claim(claims, path).map(claim_list);
        assert_eq!(list("realm_access.roles"), Some(vec!["a".into(), "1".into()]));
        assert_eq!(
            list("https://x.example/roles"),
            Some(vec!["b".into(), "c".into()])
        );
        assert_eq!(list("scope"), Some(vec!["d".into(), "e".into()]));
        assert_eq!(list("realm_access.none"), None);
        assert_eq!(list("scope.deeper"), None);
    }
}
