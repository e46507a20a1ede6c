//! Compiles rules and limits.

use std::collections::BTreeMap;
use std::rc::Rc;

use postern_config::{HeaderName, suggest};

use super::{Compiler, Entries};
use crate::config;
use crate::id::{IssuerId, LimitId, RuleId};
use crate::limit::{KeyPart, Limit};
use crate::rule::{AuthMethod, Challenge, Rule};

impl Compiler<'_> {
    pub(super) fn limit(&mut self, id: LimitId, name: &str, limit: &config::Limit) -> Option<Limit> {
        let at = format!("limits.{name}");
        self.check_name("limits", name);
        if limit.key.is_empty() {
            self.errors.add(
                format!("{at}.key"),
                "must have at least one part: subject, api_key, address or header:<name>",
            );
        }
        let mut parts = Vec::new();
        for (i, text) in limit.key.iter().enumerate() {
            let part = match (text.as_str(), text.strip_prefix("header:")) {
                ("subject", _) => Some(KeyPart::Subject),
                ("api_key", _) => Some(KeyPart::ApiKey),
                ("address", _) => Some(KeyPart::Address),
                (_, Some(header)) => HeaderName::parse(header.to_owned())
                    .ok()
                    .map(|h| KeyPart::Header(h.0)),
                _ => None,
            };
            match part {
                Some(part) => parts.push(part),
                None => {
                    let hint = suggest(text, ["subject", "api_key", "address", "header:<name>"]);
                    self.errors
                        .add(format!("{at}.key[{i}]"), format!("unknown part \"{text}\"{hint}"));
                }
            }
        }
        Limit::new(
            id,
            name.to_owned(),
            parts,
            limit.quota,
            limit.window.0,
            limit.burst,
            limit.keys,
        )
        .map_err(|(field, why)| self.errors.add(format!("{at}.{field}"), why))
        .ok()
    }

    pub(super) fn rule(&mut self, id: RuleId, rule: &config::Rule, entries: &Entries<'_>) -> Rule {
        let at = format!("rules[{}]", id.index());
        self.check_name(&format!("{at}.name"), &rule.name);
        let matcher = rule
            .matches
            .as_ref()
            .map(|m| self.matcher(&format!("{at}.match"), m))
            .unwrap_or_default();
        let (authenticate, issuers) = self.authenticate(&at, rule, entries);
        let authorize = rule.authorize.as_ref();
        if rule.open && authorize.is_some() {
            self.errors.add(
                format!("{at}.authorize"),
                "is not allowed in an open rule, which has no authenticated caller",
            );
        }
        if authorize.is_some_and(|authorize| authorize.roles.is_empty() && authorize.claims.is_empty()) {
            self.errors.add(
                format!("{at}.authorize"),
                "requires nothing, so that every caller would pass; give roles or claims, or leave it out",
            );
        }
        if let Some(authorize) = authorize {
            self.check_not_empty(&format!("{at}.authorize.roles"), &authorize.roles);
        }
        let (early_limits, limits) = self.rule_limits(&at, rule, entries);
        let policy = rule
            .policy
            .as_ref()
            .map(|policy| Rc::new(self.policy(&format!("{at}.policy"), policy)));
        Rule {
            id,
            name: rule.name.clone(),
            matcher,
            challenge: Challenge::for_methods(&authenticate),
            authenticate,
            issuers,
            roles: authorize.map(|a| a.roles.to_vec()).unwrap_or_default(),
            claims: authorize
                .map(|a| {
                    a.claims
                        .iter()
                        .map(|(path, text)| (path.clone(), text.clone()))
                        .collect()
                })
                .unwrap_or_default(),
            early_limits,
            limits,
            policy,
            audit: self.audit_mode(&at, rule.audit),
        }
    }

    pub(super) fn check_rule_names(&mut self) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, rule) in self.config.rules.iter().enumerate() {
            if let Some(earlier) = first.insert(&rule.name, index) {
                let message = format!(
                    "\"{}\" is the name of rules[{earlier}] too; names must be unique",
                    rule.name
                );
                self.errors.add(format!("rules[{index}].name"), message);
            }
        }
    }

    fn authenticate(
        &mut self,
        at: &str,
        rule: &config::Rule,
        entries: &Entries<'_>,
    ) -> (Vec<AuthMethod>, Vec<IssuerId>) {
        let any = match (&rule.authenticate, rule.open) {
            (Some(authenticate), false) if !authenticate.any.is_empty() => &authenticate.any,
            (None, true) => return (Vec::new(), Vec::new()),
            (Some(_), true) => {
                self.errors
                    .add(at, "has both \"open\" and \"authenticate\"; remove one of them");
                return (Vec::new(), Vec::new());
            }
            _ => {
                let message = "needs \"authenticate: {any: [...]}\", or \"open: true\" to let anyone pass";
                self.errors.add(at, message);
                return (Vec::new(), Vec::new());
            }
        };
        let (mut methods, mut issuers) = (Vec::new(), Vec::new());
        for (i, reference) in any.iter().enumerate() {
            let at = format!("{at}.authenticate.any[{i}]");
            let (kind, name) = reference.split_once('/').unwrap_or((reference, ""));
            let method = match kind {
                "issuers" => self.resolve(&at, "issuer", &entries.issuers, name).map(|id| {
                    issuers.push(id);
                    AuthMethod::Token
                }),
                "api_keys" => self
                    .resolve(&at, "set of API keys", &entries.api_keys, name)
                    .map(AuthMethod::ApiKey),
                "signatures" => self
                    .resolve(&at, "signature", &entries.schemes, name)
                    .map(AuthMethod::Signature),
                _ => {
                    let hint = suggest(kind, ["issuers", "api_keys", "signatures"]);
                    self.errors.add(at, format!("\"{reference}\" must be issuers/<name>, api_keys/<name> or signatures/<name>{hint}"));
                    None
                }
            };
            methods.extend(method.filter(|method| !methods.contains(method)));
        }
        let iss = |id: &IssuerId| {
            let issuer = self.config.issuers.values().nth(id.index());
            issuer.map(|issuer| issuer.issuer.as_str())
        };
        for (i, id) in issuers.iter().enumerate() {
            if issuers.iter().take(i).any(|earlier| iss(earlier) == iss(id)) {
                let message = "two of these issuers have the same \"issuer\", so that a token's `iss` could not select one";
                self.errors.add(format!("{at}.authenticate"), message);
            }
        }
        (methods, issuers)
    }

    fn rule_limits(
        &mut self,
        at: &str,
        rule: &config::Rule,
        entries: &Entries<'_>,
    ) -> (Vec<Rc<Limit>>, Vec<Rc<Limit>>) {
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (i, name) in rule.limits.iter().enumerate() {
            let at = format!("{at}.limits[{i}]");
            let Some(compiled) = self.resolve(&at, "limit", &entries.limits, name) else {
                continue;
            };
            let Some(limit) = self.config.limits.get(name) else {
                continue;
            };
            if let Some(first) = rule.limits.iter().take(i).position(|earlier| earlier == name) {
                let message =
                    format!("\"{name}\" is a duplicate of limits[{first}]: each request would count twice");
                self.errors.add(at, message);
                continue;
            }
            if limit.key.iter().all(|part| part == "address") {
                early.extend(compiled);
                continue;
            }
            if rule.open
                && limit
                    .key
                    .iter()
                    .any(|part| part == "subject" || part == "api_key")
            {
                let message =
                    format!("\"{name}\" counts by caller, and an open rule has none; count by address");
                self.errors.add(at, message);
            }
            late.extend(compiled);
        }
        (early, late)
    }

    fn resolve<T: Clone>(&mut self, at: &str, kind: &str, entries: &[(&str, T)], name: &str) -> Option<T> {
        let found = entries.iter().find(|(known, _)| *known == name);
        if found.is_none() {
            let hint = suggest(name, entries.iter().map(|(known, _)| *known));
            self.errors.add(at, format!("no {kind} \"{name}\"{hint}"));
        }
        found.map(|(_, entry)| entry.clone())
    }
}
