//! Compiled rules: the requests that each matches, and what it requires of them.

use std::collections::HashMap;
use std::rc::Rc;

use crate::api_key::ApiKeys;
use crate::config::AuditMode;
use crate::id::{IssuerId, RuleId};
use crate::limit::Limit;
use crate::path::literal;
use crate::policy::Policy;
use crate::signature::Scheme;

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    /// Empty for an open rule.
    pub(crate) authenticate: Vec<AuthMethod>,
    /// The issuers whose tokens [`AuthMethod::Token`] accepts.
    pub(crate) issuers: Vec<IssuerId>,
    pub(crate) roles: Vec<String>,
    pub(crate) claims: Vec<(String, String)>,
    /// Limits by address alone. They need no caller, and are charged before any credential is read.
    pub(crate) early_limits: Vec<Rc<Limit>>,
    pub(crate) limits: Vec<Rc<Limit>>,
    pub(crate) policy: Option<Rc<Policy>>,
    pub(crate) audit: AuditMode,
    /// `WWW-Authenticate` for requests without credentials and with invalid ones.
    pub(crate) challenge: Challenge,
}

/// An authentication method.
#[derive(Debug, Clone)]
pub(crate) enum AuthMethod {
    /// A token of any of the rule's issuers.
    Token,
    ApiKey(Rc<ApiKeys>),
    Signature(Rc<Scheme>),
}

impl PartialEq for AuthMethod {
    /// Whether both refer to the same entry of the configuration.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token, Self::Token) => true,
            (Self::ApiKey(one), Self::ApiKey(other)) => Rc::ptr_eq(one, other),
            (Self::Signature(one), Self::Signature(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// `WWW-Authenticate` (RFC 9110, section 11.6.1).
#[derive(Debug, Default)]
pub(crate) struct Challenge {
    pub(crate) missing: String,
    pub(crate) invalid: String,
}

impl Challenge {
    pub(crate) fn for_methods(methods: &[AuthMethod]) -> Self {
        let mut missing = Vec::new();
        let mut invalid = Vec::new();
        for method in methods {
            let (without, with_error) = match method {
                // RFC 6750, section 3.
                AuthMethod::Token => (
                    "Bearer realm=\"postern\"",
                    "Bearer realm=\"postern\", error=\"invalid_token\"",
                ),
                AuthMethod::ApiKey(_) => ("ApiKey realm=\"postern\"", "ApiKey realm=\"postern\""),
                AuthMethod::Signature(_) => ("Signature realm=\"postern\"", "Signature realm=\"postern\""),
            };
            if !missing.contains(&without) {
                missing.push(without);
                invalid.push(with_error);
            }
        }
        Self {
            missing: missing.join(", "),
            invalid: invalid.join(", "),
        }
    }
}

/// The requests that a rule applies to.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    pub(crate) methods: Vec<String>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) path: Path,
}

#[derive(Debug)]
pub(crate) enum Host {
    Exact(String),
    /// Everything below a domain, with the leading dot: `.example.com`.
    Subdomains(String),
}

#[derive(Debug, Default)]
pub(crate) enum Path {
    #[default]
    Any,
    Exact(String),
    Prefix(String),
    Template(Vec<Segment>),
}

#[derive(Debug)]
pub(crate) enum Segment {
    Literal(String),
    Any,
}

impl Path {
    /// Parses a template such as `/kernel/audit/{id}`, where a placeholder matches one whole, non-empty segment.
    pub(crate) fn template(text: &str) -> Self {
        let segment = |s: &str| {
            if s.starts_with('{') && s.ends_with('}') {
                Segment::Any
            } else {
                Segment::Literal(literal(s).into_owned())
            }
        };
        Self::Template(text.split('/').skip(1).map(segment).collect())
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')),
            Self::Template(segments) => {
                let mut actual = path.split('/').skip(1);
                let fits = segments.iter().all(|segment| match (segment, actual.next()) {
                    (Segment::Literal(literal), Some(actual)) => literal == actual,
                    (Segment::Any, Some(actual)) => !actual.is_empty(),
                    (_, None) => false,
                });
                fits && actual.next().is_none()
            }
        }
    }
}

impl Matcher {
    pub(crate) fn matches(&self, method: &[u8], host: &str, path: &str) -> bool {
        let method_fits = self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == method);
        let host_fits = self.hosts.is_empty()
            || self.hosts.iter().any(|wanted| match wanted {
                Host::Exact(name) => name == host,
                Host::Subdomains(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            });
        method_fits && host_fits && self.path.matches(path)
    }
}

/// All rules, indexed by exact path, so that many rules with exact paths cost one lookup.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    list: Vec<Rc<Rule>>,
    /// Positions of rules with an exact path.
    exact: HashMap<String, Vec<usize>>,
    /// Positions of all others.
    other: Vec<usize>,
}

impl Rules {
    pub(crate) fn new(list: Vec<Rule>) -> Self {
        let mut rules = Self::default();
        for (index, rule) in list.iter().enumerate() {
            match &rule.matcher.path {
                Path::Exact(path) => rules.exact.entry(path.clone()).or_default().push(index),
                _ => rules.other.push(index),
            }
        }
        rules.list = list.into_iter().map(Rc::new).collect();
        rules
    }

    pub(crate) fn get(&self, id: RuleId) -> Option<&Rule> {
        self.list.get(id.index()).map(|rule| &**rule)
    }

    pub(crate) fn list(&self) -> &[Rc<Rule>] {
        &self.list
    }

    /// The first rule in the configuration's order that matches.
    pub(crate) fn find(&self, method: &[u8], host: &str, path: &str) -> Option<&Rc<Rule>> {
        let fits = |index: &&usize| {
            self.list
                .get(**index)
                .is_some_and(|r| r.matcher.matches(method, host, path))
        };
        let exact = self.exact.get(path).and_then(|indices| indices.iter().find(fits));
        let other = self.other.iter().find(fits);
        let index = match (exact, other) {
            (Some(a), Some(b)) => *a.min(b),
            (a, b) => *a.or(b)?,
        };
        self.list.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_matching() {
        let template = Path::template("/kernel/audit/{id}");
        for (pattern, path, fits) in [
            (&Path::Exact("/a".into()), "/a", true),
            (&Path::Exact("/a".into()), "/a/", false),
            (&Path::Prefix("/orders".into()), "/orders", true),
            (&Path::Prefix("/orders".into()), "/orders/7", true),
            (&Path::Prefix("/orders".into()), "/orders-old", false),
            (&Path::Prefix("/".into()), "/anything", true),
            (&Path::Prefix("/v1/".into()), "/v1", false),
            (&template, "/kernel/audit/7", true),
            (&template, "/kernel/audit/", false),
            (&template, "/kernel/audit/7/8", false),
            (&template, "/kernel/audit", false),
            (&Path::Any, "*", true),
        ] {
            assert_eq!(pattern.matches(path), fits, "{pattern:?} {path}");
        }
    }

    fn rule(name: &str, matcher: Matcher) -> Rule {
        Rule {
            id: RuleId::new(0),
            name: name.into(),
            matcher,
            authenticate: Vec::new(),
            issuers: Vec::new(),
            roles: Vec::new(),
            claims: Vec::new(),
            early_limits: Vec::new(),
            limits: Vec::new(),
            policy: None,
            audit: AuditMode::AfterResponse,
            challenge: Challenge::default(),
        }
    }

    #[test]
    fn the_first_matching_rule_wins_whatever_its_kind() {
        let exact = |path: &str| Matcher {
            path: Path::Exact(path.into()),
            ..Matcher::default()
        };
        let prefix = |path: &str| Matcher {
            path: Path::Prefix(path.into()),
            ..Matcher::default()
        };
        let posts = Matcher {
            methods: vec!["POST".into()],
            ..exact("/a/b")
        };
        let below = Matcher {
            hosts: vec![Host::Subdomains(".example.com".into())],
            ..prefix("/h")
        };
        let rules = Rules::new(vec![
            rule("posts", posts),
            rule("prefix", prefix("/a")),
            rule("late", exact("/a/b")),
            rule("host", below),
        ]);
        let name = |method: &str, host: &str, path: &str| {
            rules
                .find(method.as_bytes(), host, path)
                .map(|rule| rule.name.clone())
        };
        assert_eq!(name("POST", "", "/a/b").as_deref(), Some("posts"));
        assert_eq!(name("GET", "", "/a/b").as_deref(), Some("prefix"));
        assert_eq!(name("GET", "x.example.com", "/h").as_deref(), Some("host"));
        assert_eq!(name("GET", ".example.com", "/h"), None);
        assert_eq!(name("GET", "", "/zzz"), None);
    }
}
