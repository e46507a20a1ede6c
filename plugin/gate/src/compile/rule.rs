//! Rules, and the limits they name.

use std::collections::BTreeMap;

use postern_config::{HeaderName, suggest};

use super::Compiler;
use crate::config::{self, Config};
use crate::limit::{KeyPart, Limit};
use crate::rule::{AuthMethod, Challenge, Rule};

impl<'a> Compiler<'a> {
    pub(super) fn limit(&mut self, name: &str, limit: &config::Limit) -> Option<Limit> {
        let at = format!("limits.{name}");
        self.name("limits", name);
        if limit.key.is_empty() {
            self.errors.add(
                format!("{at}.key"),
                "must name what is counted apart: subject, api_key, address, header:<name>",
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
                    self.errors.add(
                        format!("{at}.key[{i}]"),
                        format!("nothing to count by \"{text}\"{hint}"),
                    );
                }
            }
        }
        Limit::new(
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

    pub(super) fn rule(&mut self, index: usize, rule: &config::Rule) -> Rule {
        let at = format!("rules[{index}]");
        self.name(&format!("{at}.name"), &rule.name);
        let matcher = rule
            .matches
            .as_ref()
            .map(|m| self.matcher(&format!("{at}.match"), m))
            .unwrap_or_default();
        let (authenticate, issuers) = self.authenticate(&at, rule);
        let authorize = rule.authorize.as_ref();
        if rule.open && authorize.is_some() {
            self.errors.add(
                format!("{at}.authorize"),
                "an open rule knows no caller to authorize",
            );
        }
        if authorize.is_some_and(|authorize| authorize.roles.is_empty() && authorize.claims.is_empty()) {
            self.errors.add(
                format!("{at}.authorize"),
                "asks for nothing, so that every caller would pass; name roles or claims, or leave it out",
            );
        }
        if let Some(authorize) = authorize {
            self.not_empty(&format!("{at}.authorize.roles"), &authorize.roles);
        }
        let (early_limits, limits) = self.rule_limits(&at, rule);
        let policy = rule
            .policy
            .as_ref()
            .map(|policy| self.policy(&format!("{at}.policy"), policy));
        Rule {
            name: rule.name.clone(),
            matcher,
            challenge: Challenge::for_ways(&authenticate),
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
            told: self.told(&at, rule.audit),
        }
    }

    pub(super) fn rule_names(&mut self) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, rule) in self.config.rules.iter().enumerate() {
            if let Some(earlier) = first.insert(&rule.name, index) {
                let message = format!("\"{}\" is the name of rules[{earlier}] too", rule.name);
                self.errors.add(format!("rules[{index}].name"), message);
            }
        }
    }

    fn authenticate(&mut self, at: &str, rule: &config::Rule) -> (Vec<AuthMethod>, Vec<usize>) {
        let any = match (&rule.authenticate, rule.open) {
            (Some(authenticate), false) if !authenticate.any.is_empty() => &authenticate.any,
            (None, true) => return (Vec::new(), Vec::new()),
            (Some(_), true) => {
                self.errors
                    .add(at, "is open and authenticates too; drop one of the two");
                return (Vec::new(), Vec::new());
            }
            _ => {
                let message = "needs \"authenticate: {any: [...]}\", or \"open: true\" to let anyone pass";
                self.errors.add(at, message);
                return (Vec::new(), Vec::new());
            }
        };
        let config: &'a Config = self.config;
        let (mut ways, mut issuers) = (Vec::new(), Vec::new());
        for (i, reference) in any.iter().enumerate() {
            let at = format!("{at}.authenticate.any[{i}]");
            let (kind, name) = reference.split_once('/').unwrap_or((reference, ""));
            let way = match kind {
                "issuers" => self.index(&at, "issuer", &config.issuers, name).map(|index| {
                    issuers.push(index);
                    AuthMethod::Token
                }),
                "api_keys" => self
                    .index(&at, "set of API keys", &config.api_keys, name)
                    .map(AuthMethod::ApiKey),
                "signatures" => self
                    .index(&at, "signature", &config.signatures, name)
                    .map(AuthMethod::Signature),
                _ => {
                    let hint = suggest(kind, ["issuers", "api_keys", "signatures"]);
                    self.errors.add(at, format!("\"{reference}\" is none of issuers/<name>, api_keys/<name>, signatures/<name>{hint}"));
                    None
                }
            };
            ways.extend(way.filter(|way| !ways.contains(way)));
        }
        let iss = |index: &usize| {
            config
                .issuers
                .values()
                .nth(*index)
                .map(|issuer| issuer.issuer.as_str())
        };
        for (i, index) in issuers.iter().enumerate() {
            if issuers.iter().take(i).any(|earlier| iss(earlier) == iss(index)) {
                let message =
                    "two of these issuers have the same \"issuer\": a token could not tell which is meant";
                self.errors.add(format!("{at}.authenticate"), message);
            }
        }
        (ways, issuers)
    }

    fn rule_limits(&mut self, at: &str, rule: &config::Rule) -> (Vec<usize>, Vec<usize>) {
        let config: &'a Config = self.config;
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (i, name) in rule.limits.iter().enumerate() {
            let at = format!("{at}.limits[{i}]");
            let Some(index) = self.index(&at, "limit", &config.limits, name) else {
                continue;
            };
            let Some(limit) = self.config.limits.get(name) else {
                continue;
            };
            if let Some(first) = rule.limits.iter().take(i).position(|earlier| earlier == name) {
                let message = format!("\"{name}\" is limits[{first}] too: each request would count twice");
                self.errors.add(at, message);
                continue;
            }
            if limit.key.iter().all(|part| part == "address") {
                early.push(index);
                continue;
            }
            if rule.open
                && limit
                    .key
                    .iter()
                    .any(|part| part == "subject" || part == "api_key")
            {
                let message =
                    format!("\"{name}\" counts callers, and an open rule knows none; count by address");
                self.errors.add(at, message);
            }
            late.push(index);
        }
        (early, late)
    }

    fn index<T>(&mut self, at: &str, kind: &str, known: &BTreeMap<String, T>, name: &str) -> Option<usize> {
        let found = known.keys().position(|known| known == name);
        if found.is_none() {
            let hint = suggest(name, known.keys().map(String::as_str));
            self.errors.add(at, format!("no {kind} \"{name}\"{hint}"));
        }
        found
    }
}
