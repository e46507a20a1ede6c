//! The form of a file of cases.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Decoder as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::bindings::{Header, Identity, Request};

/// A file of cases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The entry's configuration in all cases that give none.
    #[serde(default)]
    pub config: Option<Value>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// A file that holds no cases.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// It is not of the form.
    #[error("{0}")]
    Parse(String),
    /// It holds none: nothing would be shown.
    #[error("there is no case in it")]
    Empty,
}

impl Cases {
    /// Reads cases from YAML.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, CasesError> {
        let cases: Self =
            serde_saphyr::from_str(text).map_err(|error| CasesError::Parse(error.to_string()))?;
        if cases.cases.is_empty() {
            return Err(CasesError::Empty);
        }
        Ok(cases)
    }
}

/// A request, and what is expected of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The request.
    #[serde(default)]
    pub request: CaseRequest,
    /// The entry's configuration, in place of the file's.
    #[serde(default)]
    pub config: Option<Value>,
    /// What is expected.
    pub expect: Expect,
}

/// What is expected of a case. What is not given is not compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Expect {
    /// The request may pass.
    Allow(ExpectAllow),
    /// The request may not pass.
    Deny(ExpectDeny),
    /// The policy cannot decide: `misconfigured`, `unavailable` or `failed`; or it is stopped: `trap`, `deadline`,
    /// `memory`, `log`, `reply`.
    Error(String),
}

/// What an allowance is expected to hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectAllow {
    /// Headers for the upstream: exactly these.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, OneOrMany>>,
    /// Obligations: exactly these.
    #[serde(default)]
    pub obligations: Option<BTreeMap<String, String>>,
    /// The cache grant.
    #[serde(default)]
    pub cache: Option<ExpectCache>,
}

/// A cache grant that is expected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectCache {
    /// How long, in milliseconds.
    pub ttl_ms: u32,
    /// Its parts, in any order: `method`, `path`, `header:x-a` and so on.
    pub parts: Vec<String>,
}

/// What a denial is expected to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectDeny {
    /// The status.
    #[serde(default)]
    pub status: Option<u16>,
    /// The word for programs; of a `wasi:http` policy, `code` of the problem it answers.
    #[serde(default)]
    pub code: Option<String>,
    /// The sentence for people.
    #[serde(default)]
    pub message: Option<String>,
    /// Headers of the response: at least these.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, OneOrMany>>,
}

/// One value, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several, in their order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The values.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A request as it is written in a case, on the command line of `postern policy run`, or in JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseRequest {
    /// The request's id.
    pub id: String,
    /// The rule that asks.
    pub rule: String,
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host that was asked for.
    pub authority: String,
    /// The path.
    pub path: String,
    /// The query.
    pub query: Option<String>,
    /// The headers, by name.
    pub headers: BTreeMap<String, OneOrMany>,
    /// The body.
    #[serde(deserialize_with = "body")]
    pub body: Option<Vec<u8>>,
    /// The client's address.
    pub source_address: Option<String>,
    /// When, as RFC 3339 has it.
    #[serde(deserialize_with = "time")]
    pub time: Option<SystemTime>,
    /// Who is calling.
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

/// Who is calling, in a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseIdentity {
    /// Who.
    pub subject: String,
    /// The entry of the gate's configuration.
    #[serde(default = "issuer")]
    pub issuer: String,
    /// How it was proved.
    #[serde(default = "method")]
    pub method: String,
    /// What the caller may do.
    #[serde(default)]
    pub roles: Vec<String>,
    /// To whom the caller belongs.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The token's claims.
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
            Base64::decode_to_vec(base64, None).map_err(|_| D::Error::custom("body.base64 is no Base64"))?,
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
    /// The request as the contract has it. Now, unless the case says when.
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
    fn a_case_is_read_with_all_it_may_say() {
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
    fn what_is_misspelt_or_missing_is_an_error() {
        for (text, says) in [
            ("cases: []", "no case"),
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
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
