//! The schema of a cases file.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Decoder as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::bindings::{Header, Identity, Request};

/// A cases file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The policy's configuration, for cases that have none of their own.
    #[serde(default)]
    pub config: Option<Value>,
    /// The cases, at least one.
    pub cases: Vec<Case>,
}

/// A file cannot be used as cases.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// It does not match the schema.
    #[error("{0}")]
    Parse(String),
    /// It has no cases, so it would test nothing.
    #[error("it has no cases")]
    Empty,
}

impl Cases {
    /// Parses cases from YAML.
    ///
    /// # Errors
    /// If the text is not YAML, does not match the schema, or has no cases.
    pub fn parse(text: &str) -> Result<Self, CasesError> {
        let cases: Self =
            serde_saphyr::from_str(text).map_err(|error| CasesError::Parse(error.to_string()))?;
        if cases.cases.is_empty() {
            return Err(CasesError::Empty);
        }
        Ok(cases)
    }
}

/// A request and the expected decision.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case tests, for reports.
    pub name: String,
    /// The request; omitted fields have the defaults of [`CaseRequest`].
    #[serde(default)]
    pub request: CaseRequest,
    /// The policy's configuration, instead of the file's.
    #[serde(default)]
    pub config: Option<Value>,
    /// The expected decision.
    pub expect: Expect,
}

/// The expected decision. Omitted properties are not compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Expect {
    /// The request is allowed.
    Allow(ExpectAllow),
    /// The request is denied.
    Deny(ExpectDeny),
    /// There is no decision. One of the codes that the policy reports, `misconfigured`, `unavailable` or `failed`, or of
    /// the host: `trap`, `deadline`, `memory`, `log` or `reply`.
    Error(String),
}

/// The expected contents of an allowance.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectAllow {
    /// Headers for the upstream; must match exactly.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, OneOrMany>>,
    /// Obligations; must match exactly.
    #[serde(default)]
    pub obligations: Option<BTreeMap<String, String>>,
    /// The cache grant; must match exactly.
    #[serde(default)]
    pub cache: Option<ExpectCache>,
}

/// The expected cache grant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectCache {
    /// Lifetime in milliseconds.
    pub ttl_ms: u32,
    /// The parts of its key, in any order: `method`, `path`, `header:x-a` and so on.
    pub parts: Vec<String>,
}

/// The expected denial.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectDeny {
    /// HTTP status.
    #[serde(default)]
    pub status: Option<u16>,
    /// The denial's code. For a `wasi:http` policy, the member `code` of its problem document.
    #[serde(default)]
    pub code: Option<String>,
    /// The denial's message. For a `wasi:http` policy, the member `detail` of its problem document.
    #[serde(default)]
    pub message: Option<String>,
    /// Response headers; others may be present.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, OneOrMany>>,
}

/// One value or a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single value.
    One(String),
    /// Several values, in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All values, in order.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A request as written in a case, on the command line of `postern policy run`, or in JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseRequest {
    /// Request id; the default is a fixed UUID.
    pub id: String,
    /// Name of the gate's rule; default `test`.
    pub rule: String,
    /// HTTP method; default `GET`.
    pub method: String,
    /// `http` or `https`; default `https`.
    pub scheme: String,
    /// The `:authority` or `Host`; default `api.example.com`.
    pub authority: String,
    /// Path without the query; default `/`.
    pub path: String,
    /// Query without the `?`.
    pub query: Option<String>,
    /// Headers by name; names are lower-cased.
    pub headers: BTreeMap<String, OneOrMany>,
    /// The body: text, `{json: …}` or `{base64: …}`.
    #[serde(deserialize_with = "body")]
    pub body: Option<Vec<u8>>,
    /// The client's IP address.
    pub source_address: Option<String>,
    /// The request's timestamp in RFC 3339; default: now.
    #[serde(deserialize_with = "time")]
    pub time: Option<SystemTime>,
    /// The authenticated caller, if any.
    pub identity: Option<CaseIdentity>,
}

impl Default for CaseRequest {
    fn default() -> Self {
        Self {
            id: "00000000-0000-4000-8000-000000000000".into(),
            rule: "test".into(),
            method: "GET".into(),
            scheme: "https".into(),
            authority: "api.example.com".into(),
            path: "/".into(),
            query: None,
            headers: BTreeMap::new(),
            body: None,
            source_address: None,
            time: None,
            identity: None,
        }
    }
}

/// The caller in a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseIdentity {
    /// The caller's id, such as a token's `sub`.
    pub subject: String,
    /// The entry of the gate's configuration that authenticated the caller; default `issuers/test`.
    #[serde(default = "issuer")]
    pub issuer: String,
    /// The authentication method: `jwt` (the default), `api_key` or `signature`.
    #[serde(default = "method")]
    pub method: String,
    /// The caller's roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The caller's tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The token's claims; empty by default.
    #[serde(default)]
    pub claims: serde_json::Map<String, Value>,
}

fn issuer() -> String {
    "issuers/test".into()
}

fn method() -> String {
    "jwt".into()
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Body {
    Text(String),
    Json { json: Value },
    Base64 { base64: String },
}

fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    use serde::de::Error as _;
    Ok(match Option::<Body>::deserialize(deserializer)? {
        None => None,
        Some(Body::Text(text)) => Some(text.into_bytes()),
        Some(Body::Json { json }) => Some(json.to_string().into_bytes()),
        Some(Body::Base64 { base64 }) => Some(
            Base64::decode_to_vec(base64, None)
                .map_err(|_| D::Error::custom("body.base64 is not valid Base64"))?,
        ),
    })
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    use serde::de::Error as _;
    Option::<String>::deserialize(deserializer)?
        .map(|text| {
            humantime::parse_rfc3339(&text)
                .map_err(|error| D::Error::custom(format!("time: {error}; write it as 2026-03-01T00:00:00Z")))
        })
        .transpose()
}

impl CaseRequest {
    /// Converts to the contract's request type. Without `time`, the timestamp is now.
    #[must_use]
    pub fn to_request(&self) -> Request {
        let time = self.time.unwrap_or_else(SystemTime::now);
        Request {
            id: self.id.clone(),
            rule: self.rule.clone(),
            method: self.method.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self
                .headers
                .iter()
                .flat_map(|(name, values)| {
                    values.values().iter().map(|value| Header {
                        name: name.to_ascii_lowercase(),
                        value: value.clone().into_bytes(),
                    })
                })
                .collect(),
            body: self.body.clone(),
            source_address: self.source_address.clone(),
            identity: self.identity.as_ref().map(|identity| Identity {
                subject: identity.subject.clone(),
                issuer: identity.issuer.clone(),
                method: identity.method.clone(),
                roles: identity.roles.clone(),
                tenant: identity.tenant.clone(),
                claims: Value::Object(identity.claims.clone()).to_string(),
            }),
            time: time
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_parsed_with_all_fields() {
        let cases = Cases::parse(
            r#"
config: {a: 1}
cases:
  - name: all of it
    request: {method: POST, path: /x, query: a=b, headers: {X-A: "1", x-b: ["1", "2"]}, body: {json: {k: [1]}},
      source_address: 192.0.2.7, time: "2026-03-01T00:00:00Z",
      identity: {subject: ann, roles: [Operator], tenant: acme, claims: {plan: gold}}}
    expect: {allow: {headers: {x-tenant: acme}, cache: {ttl_ms: 5000, parts: [path, "header:x-a"]}}}
  - name: little
    expect: {deny: {status: 403, code: no}}
  - name: broken
    config: {}
    expect: {error: misconfigured}
"#,
        )
        .unwrap();
        let request = cases.cases[0].request.to_request();
        assert_eq!(request.time, 1_772_323_200_000);
        assert_eq!(request.body.unwrap(), br#"{"k":[1]}"#);
        let names: Vec<_> = request.headers.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["x-a", "x-b", "x-b"]);
        assert_eq!(request.identity.unwrap().claims, r#"{"plan":"gold"}"#);
        assert_eq!(cases.cases[1].request.to_request().path, "/");
    }

    #[test]
    fn misspelt_or_missing_fields_are_errors() {
        for (text, expected) in [
            ("cases: []", "no cases"),
            ("{}", "cases"),
            ("cases: [{name: a, expect: {allow: {}}, requset: {}}]", "requset"),
            ("cases: [{name: a, expect: {alow: {}}}]", "alow"),
            ("cases: [{name: a}]", "expect"),
            ("cases: [{name: a, expect: {deny: {status: no}}}]", ""),
            (
                "cases: [{name: a, request: {time: yesterday}, expect: {allow: {}}}]",
                "time",
            ),
            (
                "cases: [{name: a, request: {body: {base64: '!'}}, expect: {allow: {}}}]",
                "base64",
            ),
        ] {
            let error = Cases::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
