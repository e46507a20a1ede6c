//! Compares decisions with expectations.

use std::collections::BTreeMap;
use std::fmt;

use crate::Failure;
use crate::bindings::{Header, Part};
use crate::decision::{Decision, DenialContent};

use super::schema::{Expect, ExpectAllow, ExpectDeny, OneOrMany};

/// One property of a decision that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The property: `decision`, `status`, `header x-a` and so on.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.what, self.expected, self.found
        )
    }
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn compare(&mut self, what: &str, expected: impl fmt::Debug, found: impl fmt::Debug) {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        if expected != found {
            self.0.push(Difference {
                what: what.to_owned(),
                expected,
                found,
            });
        }
    }
}

/// Every difference between a result and its expectation.
pub(super) fn differences(expect: &Expect, result: &Result<Decision, Failure>) -> Vec<Difference> {
    let mut differences = Differences::default();
    match (expect, result) {
        (Expect::Allow(expected), Ok(Decision::Allow(found))) => allow(&mut differences, expected, found),
        (Expect::Deny(expected), Ok(Decision::Deny(found))) => deny(&mut differences, expected, found),
        (Expect::Error(expected), Err(found)) => differences.compare("error", expected, found.code()),
        _ => {
            let expected = match expect {
                Expect::Allow(_) => "allow".to_owned(),
                Expect::Deny(deny) => match &deny.code {
                    Some(code) => format!("deny ({code})"),
                    None => "deny".to_owned(),
                },
                Expect::Error(code) => format!("error ({code})"),
            };
            differences.0.push(Difference {
                what: "decision".into(),
                expected,
                found: summary(result),
            });
        }
    }
    differences.0
}

fn summary(result: &Result<Decision, Failure>) -> String {
    match result {
        Ok(Decision::Allow(_)) => "allow".into(),
        Ok(Decision::Deny(denial)) => match &denial.content {
            DenialContent::Problem { code, message } => {
                format!("deny ({code}, {}: {message})", denial.status)
            }
            DenialContent::Body(_) => format!("deny ({})", denial.status),
        },
        Err(failure) => format!("error ({}: {failure})", failure.code()),
    }
}

fn values(headers: &[Header]) -> BTreeMap<&str, Vec<String>> {
    let mut map: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for header in headers {
        let value = String::from_utf8_lossy(&header.value).into_owned();
        map.entry(&header.name).or_default().push(value);
    }
    map
}

fn expected_values(headers: &BTreeMap<String, OneOrMany>) -> BTreeMap<&str, Vec<String>> {
    headers
        .iter()
        .map(|(name, values)| (name.as_str(), values.values().to_vec()))
        .collect()
}

fn allow(differences: &mut Differences, expected: &ExpectAllow, found: &crate::bindings::Allowance) {
    if let Some(headers) = &expected.headers {
        differences.compare("headers", expected_values(headers), values(&found.headers));
    }
    if let Some(obligations) = &expected.obligations {
        let found: BTreeMap<_, _> = found.obligations.iter().map(|o| (&o.name, &o.value)).collect();
        let expected: BTreeMap<_, _> = obligations.iter().collect();
        differences.compare("obligations", expected, found);
    }
    if let Some(cache) = &expected.cache {
        let sorted = |mut parts: Vec<String>| {
            parts.sort();
            parts
        };
        let found = found
            .cache
            .as_ref()
            .map(|grant| (grant.ttl_ms, sorted(grant.parts.iter().map(Part::name).collect())));
        differences.compare("cache", Some((cache.ttl_ms, sorted(cache.parts.clone()))), found);
    }
}

fn deny(differences: &mut Differences, expected: &ExpectDeny, found: &crate::decision::DenialResponse) {
    if let Some(status) = expected.status {
        differences.compare("status", status, found.status);
    }
    let (code, message) = match &found.content {
        DenialContent::Problem { code, message } => (Some(code.clone()), Some(message.clone())),
        DenialContent::Body(body) => {
            let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let text = |member: &str| problem.get(member).and_then(|v| v.as_str()).map(str::to_owned);
            (text("code"), text("detail"))
        }
    };
    if let Some(expected) = &expected.code {
        differences.compare("code", Some(expected), code);
    }
    if let Some(expected) = &expected.message {
        differences.compare("message", Some(expected), message);
    }
    if let Some(headers) = &expected.headers {
        let found = values(&found.headers);
        for (name, expected) in expected_values(headers) {
            differences.compare(
                &format!("header {name}"),
                Some(expected),
                found.get(name).cloned(),
            );
        }
    }
}
