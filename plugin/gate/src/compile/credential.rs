//! API keys and ways of signing.

use std::collections::HashMap;
use std::time::Duration;

use super::Compiler;
use crate::api_key::{ApiKeys, Recognised, Record};
use crate::config;
use crate::digest_map::DigestMap;
use crate::identity::{Identity, Method};
use crate::replay::NONCES;
use crate::signature::{Github, Headers, Keyed, Kind, Scheme, Signer};

impl Compiler<'_> {
    pub(super) fn api_keys(&mut self, name: &str, set: &config::ApiKeys) -> ApiKeys {
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

    pub(super) fn signature(&mut self, name: &str, signature: &config::Signature) -> Scheme {
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
                nonces,
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
                if !NONCES.contains(nonces) {
                    self.errors
                        .add(format!("{at}.nonces"), "must be from 1024 to 1048576");
                }
                if signers.is_empty() {
                    self.errors
                        .add(format!("{at}.keys"), "must hold at least one key");
                }
                let keyed = Keyed {
                    headers: Headers::new(&header_prefix.0),
                    keys: signers,
                    max_skew: max_skew.0,
                    nonces: (*replay == config::Replay::Deny).then_some(*nonces),
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
}
