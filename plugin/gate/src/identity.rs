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
/// The same for an item of a list, which readers trim, and split at spaces.
const ESCAPED_ITEM: &AsciiSet = &ESCAPED.add(b' ');

/// The largest integer up to which every one has a floating-point number of its own.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_991.0;

/// How a caller proved who it is.
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
    pub method: CredentialKind,
    /// What the caller may do.
    pub roles: Vec<String>,
    /// To which tenant the caller belongs.
    pub tenant: Option<String>,
    /// The token's claims; empty for other credentials.
    pub(crate) claims: Map<String, Value>,
    /// What limits by subject count apart: a subject is unique only within the entry that vouches for it.
    pub(crate) key: String,
    /// What a policy is told of the caller, once one has asked.
    pub(crate) policy_json: OnceCell<Rc<str>>,
    /// The headers for the upstream, made once.
    headers: Vec<(String, String)>,
}

impl Identity {
    /// `entry` is what vouched for the caller: `issuers/<name>` and so on. `extra_headers` are as the upstream gets them.
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

    /// The same caller, of whom the upstream is told no more than `policy_json` and the configured claims.
    pub(crate) fn with_headers(mut self, exposed: &[IdentityHeader]) -> Self {
        let withheld = IdentityHeader::ALL.map(|header| (!exposed.contains(&header)).then(|| header.name()));
        self.headers
            .retain(|(name, _)| !withheld.contains(&Some(name.as_str())));
        self
    }

    /// The headers that tell the upstream who is calling. Values are UTF-8 percent-encoded where they hold control
    /// characters, commas, percent signs, anything outside ASCII, or a space at an end or in an item of a list.
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

/// Spaces at the ends are encoded as well: a reader trims them (RFC 9110, section 5.5), and would see another value.
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

/// A claim as the upstream gets it in a header: its text, or a list's items joined by spaces. `None` if it says
/// nothing: empty, `null`, an object.
pub(crate) fn claim_header(value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(_) => escape_list(&claim_list(value), " "),
        value => escape(&claim_text(value)?),
    };
    (!text.is_empty()).then_some(text)
}

/// The value at a claim path such as `realm_access.roles`. A claim whose own name holds the dots is found first.
pub(crate) fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// A claim's text, if it is text, a number or a boolean. A number too large to be told from its neighbours is none.
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

/// A claim's texts: a list's items that are not empty, or the words of one string, as OAuth's `scope` has them.
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
    fn a_subject_cannot_smuggle_a_header_or_a_role() {
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
    fn what_a_reader_would_trim_or_split_is_encoded() {
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
