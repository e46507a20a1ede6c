//! The authenticated caller, and the headers that identify it to the upstream.

use std::cell::OnceCell;
use std::rc::Rc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::config::IdentityHeader;

/// The prefix of the identity headers. Client-sent headers with this prefix are stripped.
pub const HEADER_PREFIX: &str = "x-postern-";

/// Characters that a header value cannot contain, and those that would make a list or an escape ambiguous.
const ESCAPED: &AsciiSet = &CONTROLS.add(b',').add(b'%');
/// The same for an item of a list, which parsers trim and may split at spaces.
const ESCAPED_ITEM: &AsciiSet = &ESCAPED.add(b' ');

/// Up to this integer (2^53 - 1), every integer is exact as a floating-point number.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_991.0;

/// The kind of credential that authenticated a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A JSON Web Token.
    Jwt,
    /// An API key.
    ApiKey,
    /// A signature over the request.
    Signature,
}

impl CredentialKind {
    /// The name, as in `x-postern-method`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api-key",
            Self::Signature => "signature",
        }
    }
}

/// A caller whose credential was verified. Only the gate creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The caller's name, unique only within the entry that authenticated it.
    pub subject: String,
    /// The kind of credential.
    pub method: CredentialKind,
    /// The caller's roles; may be empty.
    pub roles: Vec<String>,
    /// The caller's tenant, if it has one.
    pub tenant: Option<String>,
    /// The token's claims; empty for other credentials.
    pub(crate) claims: Map<String, Value>,
    /// The key of limits by subject: the entry that authenticated the caller, and the subject, which is unique only
    /// within that entry.
    pub(crate) key: String,
    /// The caller as JSON for policies, created when it is first needed.
    pub(crate) policy_json: OnceCell<Rc<str>>,
    /// The headers for the upstream.
    headers: Vec<(String, String)>,
}

impl Identity {
    /// `entry` is the configuration entry that authenticated the caller: `issuers/<name>` and so on. `extra_headers`
    /// are already escaped.
    pub(crate) fn new(
        entry: &str,
        subject: String,
        method: CredentialKind,
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
            headers.push((IdentityHeader::Roles.name().to_owned(), escape_list(&roles, ",")));
        }
        if let Some(tenant) = &tenant {
            headers.push((IdentityHeader::Tenant.name().to_owned(), escape(tenant)));
        }
        headers.extend(extra_headers);
        Self {
            key: format!("{entry}\n{subject}"),
            policy_json: OnceCell::new(),
            subject,
            method,
            roles,
            tenant,
            claims,
            headers,
        }
    }

    /// Removes the identity headers that are not `exposed`; headers with configured claims stay.
    pub(crate) fn with_headers(mut self, exposed: &[IdentityHeader]) -> Self {
        let withheld = IdentityHeader::ALL.map(|header| (!exposed.contains(&header)).then(|| header.name()));
        self.headers
            .retain(|(name, _)| !withheld.contains(&Some(name.as_str())));
        self
    }

    /// The headers that identify the caller to the upstream. Values are UTF-8. Control characters, commas, percent
    /// signs, non-ASCII characters, leading and trailing spaces, and spaces in items of a list are percent-encoded.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The configuration entry that authenticated the caller: `issuers/<name>` and so on.
    pub(crate) fn entry(&self) -> &str {
        self.key.split_once('\n').map_or("", |(entry, _)| entry)
    }

    pub(crate) fn has_any_role(&self, wanted: &[String]) -> bool {
        self.roles.iter().any(|role| wanted.contains(role))
    }
}

/// Encodes leading and trailing spaces too: parsers trim them (RFC 9110, section 5.5), and would see another value.
fn escape(value: &str) -> String {
    let inner = value.trim_matches(' ');
    if inner.is_empty() {
        return escape_item(value);
    }
    let (before, rest) = value.split_at(value.len() - value.trim_start_matches(' ').len());
    let after = rest.strip_prefix(inner).unwrap_or_default();
    [
        escape_item(before),
        utf8_percent_encode(inner, ESCAPED).to_string(),
        escape_item(after),
    ]
    .concat()
}

fn escape_item(item: &str) -> String {
    utf8_percent_encode(item, ESCAPED_ITEM).to_string()
}

fn escape_list(items: &[String], separator: &str) -> String {
    let items: Vec<_> = items.iter().map(|item| escape_item(item)).collect();
    items.join(separator)
}

/// A claim as a header value: its text, or the items of a list joined by spaces. `None` if it is empty, `null` or an
/// object.
pub(crate) fn claim_header(value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(_) => escape_list(&claim_list(value), " "),
        value => escape(&claim_text(value)?),
    };
    (!text.is_empty()).then_some(text)
}

/// The value at a claim path such as `realm_access.roles`. A claim whose own name contains the dots is found first.
pub(crate) fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// The text of a claim that is a string, a number or a boolean. `None` for a number that is too large to be exact.
pub(crate) fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            let exact = !number.is_f64()
                || number
                    .as_f64()
                    .is_some_and(|number| number.abs() <= MAX_EXACT_INTEGER);
            exact.then(|| number.to_string())
        }
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The texts of a claim: the non-empty items of a list, or the words of a string, as in OAuth's `scope`.
pub(crate) fn claim_list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items
            .iter()
            .filter_map(claim_text)
            .filter(|item| !item.is_empty())
            .collect(),
        Value::String(words) => words.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subject_cannot_inject_a_header_or_a_role() {
        let roles = vec!["a,Admin".to_owned(), "b".to_owned()];
        let identity = Identity::new(
            "issuers/i",
            "eve\r\nx-admin: é%".into(),
            CredentialKind::Jwt,
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
    fn what_a_parser_would_trim_or_split_is_encoded() {
        for (claim, header) in [
            (json!("alice"), Some("alice")),
            (json!("Alice Smith"), Some("Alice Smith")),
            (json!(" admin"), Some("%20admin")),
            (json!("admin  "), Some("admin%20%20")),
            (json!(" a b "), Some("%20a b%20")),
            (json!("\tadmin"), Some("%09admin")),
            (json!(" "), Some("%20")),
            (json!("read write"), Some("read write")),
            (json!(["read", "write all", " x"]), Some("read write%20all %20x")),
            (json!(["", null, "x"]), Some("x")),
            (json!(7), Some("7")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(1e22), None),
            (json!(""), None),
            (json!([]), None),
            (json!([null, {}]), None),
            (json!(null), None),
            (json!({"a": 1}), None),
        ] {
            assert_eq!(claim_header(&claim).as_deref(), header, "{claim}");
        }
        let identity = Identity::new(
            "api_keys/k",
            " admin".into(),
            CredentialKind::ApiKey,
            vec![" Admin ".into(), "Team Lead".into()],
            Some("t1 ".into()),
            Map::new(),
            [],
        );
        let values: Vec<_> = identity
            .headers()
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(
            values,
            ["%20admin", "api-key", "%20Admin%20,Team%20Lead", "t1%20"]
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
