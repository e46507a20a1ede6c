//! Compiles issuers: their keys, and the claims that are sent to the upstream.

use std::cell::RefCell;
use std::time::Duration;

use super::{Compiler, split_uri};
use crate::config::{self, Algorithm};
use crate::id::IssuerId;
use crate::jwt::{CachedKeys, Issuer, KeySet, Remote, Schedule, VerifyingKey};

/// The shortest accepted HS256 secret, in bytes (RFC 7518, section 3.2).
const MIN_HS256_SECRET: usize = 32;

impl Compiler<'_> {
    pub(super) fn issuer(&mut self, id: IssuerId, name: &str, issuer: &config::Issuer) -> Issuer {
        let at = format!("issuers.{name}");
        self.check_name("issuers", name);
        if issuer.issuer.is_empty() {
            self.errors.add(
                format!("{at}.issuer"),
                "must not be empty; give the exact `iss` of its tokens",
            );
        }
        if issuer.audiences.is_empty() {
            self.errors.add(
                format!("{at}.audiences"),
                "must name at least one audience: without one, a token issued for another service would be accepted",
            );
        }
        self.check_not_empty(&format!("{at}.audiences"), &issuer.audiences);
        if issuer.algorithms.is_empty() {
            self.errors
                .add(format!("{at}.algorithms"), "must name at least one algorithm");
        }
        self.claim_headers(&at, issuer);
        let (inline, remote) = self.keys(&at, name, issuer);
        Issuer {
            id,
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
            exposed: self.config.identity_headers.clone(),
            remote,
            keys: RefCell::new(CachedKeys {
                set: inline,
                fetched: Duration::ZERO,
            }),
        }
    }

    fn keys(&mut self, at: &str, name: &str, issuer: &config::Issuer) -> (Option<KeySet>, Option<Remote>) {
        let symmetric = issuer.algorithms.contains(&Algorithm::HS256);
        match (symmetric, &issuer.jwks, &issuer.secret) {
            (true, _, _) if issuer.algorithms.len() > 1 => {
                let message = "HS256 cannot be combined with other algorithms: a public key could be mistaken for a \
                               shared secret; define two issuers";
                self.errors.add(format!("{at}.algorithms"), message);
            }
            (true, Some(_), _) => self
                .errors
                .add(format!("{at}.jwks"), "HS256 takes a \"secret\", not \"jwks\""),
            (true, None, None) => self.errors.add(at, "HS256 needs \"secret: {env: NAME}\""),
            (false, _, Some(_)) => self
                .errors
                .add(format!("{at}.secret"), "only HS256 takes a secret"),
            (false, None, None) => {
                self.errors.add(
                    at,
                    "needs \"jwks\": {uri, cluster} to fetch the keys, or {inline} to include them",
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
                for (field, duration) in [
                    ("refresh", jwks.refresh),
                    ("timeout", jwks.timeout),
                    ("cooldown", jwks.cooldown),
                ] {
                    if duration.0 < Duration::from_secs(1) {
                        self.errors.add(format!("{at}.{field}"), "must be at least 1s");
                    }
                }
                if jwks.max_stale.0 < jwks.refresh.0 {
                    self.errors.add(
                        format!("{at}.max_stale"),
                        "must be at least \"refresh\"; otherwise keys expire before they are refreshed",
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
}

fn joined(algorithms: &[Algorithm]) -> String {
    let mut names: Vec<_> = algorithms.iter().map(|a| a.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join("+")
}
