//! From a configuration to a gate: names resolved, keys decoded, secrets read, every error found.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::api_key::{ApiKeys, Recognised, Record};
use crate::config::{self, Algorithm, Config, ConfigErrors, HeaderName, SecretRef, suggest};
use crate::digest_map::DigestMap;
use crate::gate::Gate;
use crate::identity::{Identity, Method};
use crate::jwt::{Held, Issuer, Issuers, KeySet, Remote, Schedule, VerifyingKey};
use crate::limit::{KeyPart, Limit};
use crate::rule::{Challenge, Host, Matcher, Path, Rule, Rules, WayIn};
use crate::secret::{Secret, Secrets};
use crate::signature::{Github, Headers, Keyed, Kind, Scheme, Signer};

/// The shortest HS256 secret accepted (RFC 7518, section 3.2).
const MIN_HS256_SECRET: usize = 32;

impl Gate {
    /// Compiles a configuration. Secrets are looked up once, here.
    ///
    /// # Errors
    /// Everything in the configuration that makes no sense, each with its path.
    pub fn compile(config: &Config, secrets: &dyn Secrets) -> Result<Self, ConfigErrors> {
        let mut c = Compiler {
            config,
            secrets,
            errors: ConfigErrors::default(),
        };
        let issuers = config
            .issuers
            .iter()
            .map(|(name, issuer)| c.issuer(name, issuer))
            .collect();
        let api_keys = config
            .api_keys
            .iter()
            .map(|(name, keys)| c.api_keys(name, keys))
            .collect();
        let schemes = config
            .signatures
            .iter()
            .map(|(name, s)| c.signature(name, s))
            .collect();
        let limits: Vec<Limit> = config
            .limits
            .iter()
            .filter_map(|(name, limit)| c.limit(name, limit))
            .collect();
        let rules: Vec<Rule> = config
            .rules
            .iter()
            .enumerate()
            .map(|(i, rule)| c.rule(i, rule))
            .collect();
        c.rule_names();
        let reserved = config
            .issuers
            .values()
            .flat_map(|issuer| issuer.headers.keys().cloned())
            .collect();
        let gate = Self::new(
            Issuers::new(issuers),
            api_keys,
            schemes,
            limits,
            Rules::new(rules),
            config.default,
            reserved,
        );
        c.errors.or_ok(gate)
    }
}

struct Compiler<'a> {
    config: &'a Config,
    secrets: &'a dyn Secrets,
    errors: ConfigErrors,
}

impl<'a> Compiler<'a> {
    fn name(&mut self, kind: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let message = format!("the name \"{name}\" must be 1 to 64 letters, digits, \"-\" or \"_\"");
            self.errors.add(kind, message);
        }
    }

    fn issuer(&mut self, name: &str, issuer: &config::Issuer) -> Issuer {
        let at = format!("issuers.{name}");
        self.name("issuers", name);
        if issuer.issuer.is_empty() {
            self.errors.add(
                format!("{at}.issuer"),
                "must be the exact `iss` of its tokens, not empty",
            );
        }
        if issuer.audiences.is_empty() {
            self.errors.add(
                format!("{at}.audiences"),
                "must name at least one audience: without one, a token made for another service would pass",
            );
        }
        if issuer.algorithms.is_empty() {
            self.errors
                .add(format!("{at}.algorithms"), "must name at least one algorithm");
        }
        for header in issuer.headers.keys() {
            self.claim_header(&at, header);
        }
        let (held, remote) = self.keys(&at, name, issuer);
        Issuer {
            label: format!("issuers/{name}"),
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms.clone(),
            leeway: issuer.leeway.0,
            expiry: issuer.expiry,
            subject_claim: issuer.subject_claim.clone(),
            roles_claim: issuer.roles_claim.clone(),
            tenant_claim: issuer.tenant_claim.clone(),
            default_tenant: issuer.default_tenant.clone(),
            headers: issuer
                .headers
                .iter()
                .map(|(h, claim)| (h.to_ascii_lowercase(), claim.clone()))
                .collect(),
            told: self.config.identity_headers.clone(),
            remote,
            keys: RefCell::new(Held {
                set: held,
                fetched: Duration::ZERO,
            }),
        }
    }

    fn claim_header(&mut self, at: &str, header: &str) {
        const NEVER: [&str; 5] = [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "authorization",
        ];
        let sound = HeaderName::parse(header.to_owned()).is_ok_and(|h| !NEVER.contains(&h.0.as_str()));
        if !sound {
            self.errors.add(
                format!("{at}.headers"),
                format!("\"{header}\" cannot carry a claim to the upstream"),
            );
        }
    }

    fn keys(&mut self, at: &str, name: &str, issuer: &config::Issuer) -> (Option<KeySet>, Option<Remote>) {
        let symmetric = issuer.algorithms.contains(&Algorithm::HS256);
        match (symmetric, &issuer.jwks, &issuer.secret) {
            (true, _, _) if issuer.algorithms.len() > 1 => {
                let message = "HS256 stands alone: with a public-key algorithm beside it, a public key could be \
                               taken for a shared secret; make two issuers";
                self.errors.add(format!("{at}.algorithms"), message);
            }
            (true, Some(_), _) => self
                .errors
                .add(format!("{at}.jwks"), "HS256 takes a \"secret\", no \"jwks\""),
            (true, None, None) => self.errors.add(at, "HS256 needs \"secret: {env: NAME}\""),
            (false, _, Some(_)) => self
                .errors
                .add(format!("{at}.secret"), "only HS256 takes a secret"),
            (false, None, None) => {
                self.errors.add(
                    at,
                    "needs \"jwks\": {uri, cluster} to fetch its keys, or {inline} to hold them",
                );
            }
            (true, None, Some(secret)) => {
                let secret = self.secret(&format!("{at}.secret"), secret);
                if secret
                    .as_ref()
                    .is_some_and(|s| s.expose().len() < MIN_HS256_SECRET)
                {
                    let message = "is shorter than the 32 bytes that HS256 needs (RFC 7518, section 3.2)";
                    self.errors.add(format!("{at}.secret"), message);
                }
                return (
                    secret.map(|s| KeySet::single(VerifyingKey::from_secret(&s))),
                    None,
                );
            }
            (false, Some(jwks), None) => {
                return self.jwks(&format!("{at}.jwks"), name, jwks, &issuer.algorithms);
            }
        }
        (None, None)
    }

    fn jwks(
        &mut self,
        at: &str,
        name: &str,
        jwks: &config::Jwks,
        algorithms: &[Algorithm],
    ) -> (Option<KeySet>, Option<Remote>) {
        match (&jwks.inline, &jwks.uri, &jwks.cluster) {
            (Some(inline), None, None) => {
                let text = inline.as_str().map_or_else(|| inline.to_string(), str::to_owned);
                match KeySet::from_json(text.as_bytes(), algorithms) {
                    Ok(set) => return (Some(set), None),
                    Err(e) => self.errors.add(format!("{at}.inline"), e.to_string()),
                }
            }
            (None, Some(uri), Some(cluster)) => {
                if split_uri(uri).is_none() {
                    self.errors.add(
                        format!("{at}.uri"),
                        "must be http://host/path or https://host/path",
                    );
                }
                for (field, span) in [
                    ("refresh", jwks.refresh),
                    ("timeout", jwks.timeout),
                    ("cooldown", jwks.cooldown),
                ] {
                    if span.0 < Duration::from_secs(1) {
                        self.errors.add(format!("{at}.{field}"), "must be at least 1s");
                    }
                }
                if jwks.max_stale.0 < jwks.refresh.0 {
                    self.errors.add(
                        format!("{at}.max_stale"),
                        "must be at least \"refresh\", or keys end before they are renewed",
                    );
                }
                let schedule = Schedule::new(jwks);
                return (
                    None,
                    Some(Remote {
                        name: name.to_owned(),
                        algorithms: joined(algorithms),
                        uri: uri.clone(),
                        cluster: cluster.clone(),
                        schedule,
                    }),
                );
            }
            _ => self.errors.add(
                at,
                "takes either \"inline\", or \"uri\" together with \"cluster\"",
            ),
        }
        (None, None)
    }

    fn secret(&mut self, at: &str, reference: &SecretRef) -> Option<Secret> {
        let secret = self
            .secrets
            .secret(&reference.env)
            .filter(|secret| !secret.is_empty());
        if secret.is_none() {
            // What is no variable's name may be the secret itself and is not repeated.
            let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            let name = if reference.env.bytes().all(plain) {
                reference.env.as_str()
            } else {
                "the variable named here"
            };
            let message = format!(
                "{name} is not set; pass it to the VM in environment_variables.host_env_keys (Istio: vmConfig.env)"
            );
            self.errors.add(format!("{at}.env"), message);
        }
        secret
    }

    fn secrets(&mut self, at: &str, references: &[SecretRef]) -> Vec<Secret> {
        if references.is_empty() {
            self.errors.add(at, "must name at least one secret");
        }
        references
            .iter()
            .enumerate()
            .filter_map(|(i, r)| self.secret(&format!("{at}[{i}]"), r))
            .collect()
    }

    fn api_keys(&mut self, name: &str, set: &config::ApiKeys) -> ApiKeys {
        let at = format!("api_keys.{name}");
        let label = format!("api_keys/{name}");
        self.name("api_keys", name);
        let mut keys = DigestMap::default();
        for (i, key) in set.keys.iter().enumerate() {
            if key.id.is_empty() {
                self.errors.add(format!("{at}.keys[{i}].id"), "must not be empty");
            }
            let caller = self.caller(&label, &key.id, Method::ApiKey, &key.roles, key.tenant.as_deref());
            let record = Record::new(caller, key.not_after.map(|instant| instant.0));
            if keys.insert(key.digest.0, record).is_some() {
                self.errors
                    .add(format!("{at}.keys[{i}].digest"), "the same key stands here twice");
            }
        }
        ApiKeys {
            label,
            header: set.header.0.clone(),
            keys,
            recognised: Recognised::default(),
        }
    }

    /// A caller that the configuration itself describes.
    fn caller(
        &self,
        entry: &str,
        id: &str,
        method: Method,
        roles: &[String],
        tenant: Option<&str>,
    ) -> Identity {
        let tenant = tenant.map(str::to_owned);
        Identity::new(
            entry,
            id.to_owned(),
            method,
            roles.to_vec(),
            tenant,
            serde_json::Map::new(),
            [],
        )
        .telling(&self.config.identity_headers)
    }

    fn signature(&mut self, name: &str, signature: &config::Signature) -> Scheme {
        let at = format!("signatures.{name}");
        let label = format!("signatures/{name}");
        self.name("signatures", name);
        let (kind, max_body) = match signature {
            config::Signature::Github {
                secrets,
                max_body,
                roles,
            } => {
                let secrets = self.secrets(&format!("{at}.secrets"), secrets);
                (
                    Kind::Github(Github::new(
                        secrets,
                        self.caller(&label, name, Method::Signature, roles, None),
                    )),
                    max_body.0,
                )
            }
            config::Signature::Keyed {
                header_prefix,
                keys,
                max_skew,
                replay,
                max_body,
            } => {
                let mut signers = HashMap::new();
                for (i, key) in keys.iter().enumerate() {
                    let at = format!("{at}.keys[{i}]");
                    let secrets = self.secrets(&format!("{at}.secrets"), &key.secrets);
                    let caller = self.caller(
                        &label,
                        &key.id,
                        Method::Signature,
                        &key.roles,
                        key.tenant.as_deref(),
                    );
                    let signer = Signer::new(secrets, caller);
                    if key.id.is_empty() || signers.insert(key.id.clone(), signer).is_some() {
                        self.errors
                            .add(format!("{at}.id"), "must be given, and once only");
                    }
                }
                let day = Duration::from_secs(86_400);
                if max_skew.0 < Duration::from_secs(1) || max_skew.0 > day {
                    self.errors
                        .add(format!("{at}.max_skew"), "must be from 1s to 24h");
                }
                if signers.is_empty() {
                    self.errors
                        .add(format!("{at}.keys"), "must hold at least one key");
                }
                let keyed = Keyed {
                    headers: Headers::new(&header_prefix.0),
                    keys: signers,
                    max_skew: max_skew.0,
                    replay: *replay == config::Replay::Deny,
                };
                (Kind::Keyed(keyed), max_body.0)
            }
        };
        Scheme {
            label,
            max_body,
            kind,
        }
    }

    fn limit(&mut self, name: &str, limit: &config::Limit) -> Option<Limit> {
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
        Limit::new(name.to_owned(), parts, limit.quota, limit.window.0, limit.burst)
            .map_err(|(field, why)| self.errors.add(format!("{at}.{field}"), why))
            .ok()
    }

    fn rule(&mut self, index: usize, rule: &config::Rule) -> Rule {
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
        let (early_limits, limits) = self.rule_limits(&at, rule);
        Rule {
            name: rule.name.clone(),
            matcher,
            challenge: Challenge::for_ways(&authenticate),
            authenticate,
            issuers,
            roles: authorize.map(|a| a.roles.clone()).unwrap_or_default(),
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
        }
    }

    fn rule_names(&mut self) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, rule) in self.config.rules.iter().enumerate() {
            if let Some(earlier) = first.insert(&rule.name, index) {
                let message = format!("\"{}\" is the name of rules[{earlier}] too", rule.name);
                self.errors.add(format!("rules[{index}].name"), message);
            }
        }
    }

    fn matcher(&mut self, at: &str, matches: &config::Match) -> Matcher {
        for (i, method) in matches.methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                self.errors.add(
                    format!("{at}.methods[{i}]"),
                    format!("\"{method}\" is no method; write GET, POST"),
                );
            }
        }
        let hosts: Vec<Host> = matches
            .hosts
            .iter()
            .enumerate()
            .map(|(i, host)| self.host(&format!("{at}.hosts[{i}]"), host))
            .collect();
        Matcher {
            methods: matches.methods.clone(),
            hosts,
            path: matches
                .path
                .as_ref()
                .map(|p| self.path(&format!("{at}.path"), p))
                .unwrap_or_default(),
        }
    }

    fn host(&mut self, at: &str, text: &str) -> Host {
        let lower = text.trim_end_matches('.').to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        let port = !name.starts_with('[') && name.contains(':');
        if name.is_empty() || port || !name.bytes().all(sound) {
            let message = format!(
                "\"{text}\" would never match: write a host name without port, \"*.example.com\" for all below a \
                 domain, or leave \"hosts\" out for any"
            );
            self.errors.add(at, message);
        }
        match lower.strip_prefix('*') {
            Some(suffix) => Host::Below(suffix.to_owned()),
            None => Host::Exact(lower),
        }
    }

    fn path(&mut self, at: &str, path: &config::PathMatch) -> Path {
        let (text, compiled) = match (&path.exact, &path.prefix, &path.template) {
            (Some(exact), None, None) => (exact, Path::Exact(exact.clone())),
            (None, Some(prefix), None) => (prefix, Path::Prefix(prefix.clone())),
            (None, None, Some(template)) => (template, Path::template(template)),
            _ => {
                self.errors
                    .add(at, "takes exactly one of \"exact\", \"prefix\", \"template\"");
                return Path::Any;
            }
        };
        let braced = text.split('/').filter(|segment| segment.contains(['{', '}']));
        let placeholder = |s: &str| {
            s.len() > 2 && s.starts_with('{') && s.ends_with('}') && s.matches(['{', '}']).count() == 2
        };
        if braced.clone().any(|s| path.template.is_none() || !placeholder(s)) {
            self.errors.add(
                at,
                format!(
                    "\"{text}\" would never match: {{name}} stands for one whole segment of a \"template\""
                ),
            );
        }
        let plain = text.replace(['{', '}'], "");
        match crate::path::normalise(plain.as_bytes()) {
            Ok(normal) if normal == plain => {}
            Ok(normal) => {
                self.errors.add(at, format!("\"{text}\" would never match: requests are compared as \"{normal}\""));
            }
            Err(_) => self.errors.add(at, format!("\"{text}\" would never match: it must begin with \"/\", and a path with empty, \".\" or \"..\" segments, backslashes or encoded slashes is refused before any rule")),
        }
        if text.contains('?') {
            self.errors.add(at, "a query takes no part in matching");
        }
        compiled
    }

    fn authenticate(&mut self, at: &str, rule: &config::Rule) -> (Vec<WayIn>, Vec<usize>) {
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
                    WayIn::Token
                }),
                "api_keys" => self
                    .index(&at, "set of API keys", &config.api_keys, name)
                    .map(WayIn::ApiKey),
                "signatures" => self
                    .index(&at, "signature", &config.signatures, name)
                    .map(WayIn::Signature),
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

fn joined(algorithms: &[Algorithm]) -> String {
    let mut names: Vec<_> = algorithms.iter().map(|a| a.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join("+")
}

/// Host and path of an http or https URI.
#[must_use]
pub fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let rest = uri
        .strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(slash)?;
    let path = if path.is_empty() { "/" } else { path };
    (!host.is_empty() && !path.contains('#')).then_some((host, path))
}
