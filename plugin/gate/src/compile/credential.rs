//! Compiles API keys and signature schemes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::Duration;

use postern_config::Digest;
use sha2::{Digest as _, Sha256};

use super::Compiler;
use super::claim_header::FRAMING;
use crate::api_key::{ApiKeys, DigestCache, KeyEntry};
use crate::config;
use crate::digest_map::DigestMap;
use crate::identity::{CredentialKind, Identity};
use crate::replay::NONCES;
use crate::secret::Secret;
use crate::signature::{Github, HeaderNames, Keyed, Kind, MAX_KEY_ID, Scheme, Signer};

/// The longest id of an API key, in bytes: each request carries it to the upstream in a header.
const MAX_API_KEY_ID: usize = 1024;

/// Whether a header value arrives as it was sent: parsers trim spaces and reject control characters.
fn arrives_unchanged(text: &str) -> bool {
    text.trim() == text && !text.chars().any(char::is_control)
}

impl Compiler<'_> {
    pub(super) fn api_keys(&mut self, name: &str, set: &config::ApiKeys) -> ApiKeys {
        let at = format!("api_keys.{name}");
        let label = format!("api_keys/{name}");
        self.check_name("api_keys", name);
        if FRAMING.contains(&set.header.0.as_str()) {
            let message = format!(
                "\"{}\" frames the message or belongs to one connection, and cannot carry a key",
                set.header.0
            );
            self.errors.add(format!("{at}.header"), message);
        }
        let mut keys = DigestMap::default();
        let placeholder_digests = Digest::of_placeholders();
        for (i, key) in set.keys.iter().enumerate() {
            if key.id.is_empty() || key.id.len() > MAX_API_KEY_ID {
                let message = format!("must be 1 to {MAX_API_KEY_ID} bytes");
                self.errors.add(format!("{at}.keys[{i}].id"), message);
            }
            self.check_not_empty(&format!("{at}.keys[{i}].roles"), &key.roles);
            if placeholder_digests.contains(&key.digest) {
                let message = "is the digest of an empty value, or of what an unset variable becomes, such as \"null\"; \
                               `postern key new` generates a key";
                self.errors.add(format!("{at}.keys[{i}].digest"), message);
            }
            let caller = self.caller(
                &label,
                &key.id,
                CredentialKind::ApiKey,
                &key.roles,
                key.tenant.as_deref(),
            );
            let record = KeyEntry::new(caller, key.not_after.map(|time| time.0));
            if keys.insert(key.digest.0, record).is_some() {
                self.errors.add(
                    format!("{at}.keys[{i}].digest"),
                    "is a duplicate: another entry has the same key",
                );
            }
        }
        ApiKeys {
            label,
            header: set.header.0.clone(),
            keys,
            digest_cache: DigestCache::default(),
        }
    }

    /// A caller that is defined in the configuration.
    fn caller(
        &self,
        entry: &str,
        id: &str,
        method: CredentialKind,
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
        .with_headers(&self.config.identity_headers)
    }

    /// Rejects a secret that another key has too: its holder could sign as either. `holders` maps the digests of the
    /// secrets so far to their keys.
    fn check_secret_holders(
        &mut self,
        at: &str,
        key: &str,
        secrets: &[Secret],
        holders: &mut HashMap<[u8; 32], String>,
    ) {
        for (i, secret) in secrets.iter().enumerate() {
            match holders.entry(Sha256::digest(secret.expose()).into()) {
                Entry::Occupied(holder) if holder.get() != key => {
                    let message = format!(
                        "is the secret of {} too, so that its holder could sign as either; give each key its own secret",
                        holder.get()
                    );
                    self.errors.add(format!("{at}.secrets[{i}]"), message);
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert(key.to_owned());
                }
            }
        }
    }

    pub(super) fn signature(&mut self, name: &str, signature: &config::Signature) -> Scheme {
        let at = format!("signatures.{name}");
        let label = format!("signatures/{name}");
        self.check_name("signatures", name);
        let (kind, max_body) = match signature {
            config::Signature::Github {
                secrets,
                max_body,
                roles,
            } => {
                let secrets = self.secrets(&format!("{at}.secrets"), secrets);
                self.check_not_empty(&format!("{at}.roles"), roles);
                (
                    Kind::Github(Rc::new(Github::new(
                        secrets,
                        self.caller(&label, name, CredentialKind::Signature, roles, None),
                    ))),
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
                let mut holders = HashMap::new();
                for (i, key) in keys.iter().enumerate() {
                    let at = format!("{at}.keys[{i}]");
                    let secrets = self.secrets(&format!("{at}.secrets"), &key.secrets);
                    self.check_not_empty(&format!("{at}.roles"), &key.roles);
                    self.check_secret_holders(&at, &format!("keys[{i}]"), &secrets, &mut holders);
                    let caller = self.caller(
                        &label,
                        &key.id,
                        CredentialKind::Signature,
                        &key.roles,
                        key.tenant.as_deref(),
                    );
                    let signer = Signer::new(secrets, caller);
                    if key.id.is_empty() || signers.insert(key.id.clone(), signer).is_some() {
                        self.errors
                            .add(format!("{at}.id"), "must be unique and not empty");
                    }
                    if key.id.len() > MAX_KEY_ID || !arrives_unchanged(&key.id) {
                        let message = format!(
                            "must be at most {MAX_KEY_ID} bytes, without control characters, leading or trailing spaces: no \
                             request could carry it"
                        );
                        self.errors.add(format!("{at}.id"), message);
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
                        .add(format!("{at}.keys"), "must contain at least one key");
                }
                let keyed = Keyed {
                    headers: HeaderNames::new(&header_prefix.0),
                    keys: signers,
                    max_skew: max_skew.0,
                    nonces: (*replay == config::Replay::Deny).then_some(*nonces),
                };
                (Kind::Keyed(Rc::new(keyed)), max_body.0)
            }
        };
        Scheme {
            label: label.into(),
            max_body,
            kind,
        }
    }
}
