//! The handle for all signing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use postern_signers::{ReadError, Registry, Signer, Status, Use, Uses};
use serde_json::Value;

use crate::breaker::BreakerState;
use crate::development::DevelopmentSigner;
use crate::error::{SigningError, StartError};
use crate::health::{Health, SigningState};
use crate::manifest::{self, SignedManifest};
use crate::metrics::Metrics;
use crate::mode::{Mode, ModeError};
use crate::probe_cache::ProbeCache;
use crate::proxy::Proxy;
use crate::registry::{LiveRegistry, SignerChange};
use crate::reserved;
use crate::settings::{Settings, SettingsError, SignerSelection};
use crate::unverified_signature::UnverifiedSignature;

/// Maximum payload size, in bytes. For larger data, sign its digest.
pub const MAX_PAYLOAD_SIZE: usize = 1 << 20;

/// A verified signature: its signer is in the registry, and the signer's key verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Ed25519 signature (RFC 8032).
    pub signature: [u8; 64],
    pub signer_id: String,
    /// Time for which the signer's validity was checked. Later checks of this signature by time must use it too.
    pub signed_at: SystemTime,
    /// Time for the whole request, verification included.
    pub elapsed: Duration,
    /// Round-trip time of the successful attempt at the proxy. Zero without a proxy.
    pub proxy_elapsed: Duration,
}

/// What makes signatures.
#[derive(Debug)]
pub(crate) enum Backend {
    /// The KMS, through its proxy.
    Proxy(Box<Proxy>),
    /// Keys in this process.
    Development(Box<DevelopmentSigner>),
}

/// Signs through the KMS. Clones share the same state.
#[derive(Debug, Clone)]
pub struct Signing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Backend,
    required: bool,
    registry: LiveRegistry,
    health: Health,
    probe_cache: ProbeCache,
    metrics: Metrics,
}

impl Signing {
    /// Validates the settings and reads the registry. Does not connect to the proxy.
    ///
    /// # Errors
    /// If settings conflict ([`Mode::resolve`]) or are invalid, or the registry cannot be read.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let mode = Mode::resolve(
            settings.proxy.is_some(),
            settings.required,
            settings.development_secret.is_some(),
        )?;
        let metrics = Metrics::new();
        let (backend, registry) = match (mode, &settings.proxy) {
            (Mode::Proxy, Some(proxy)) => {
                let registry = LiveRegistry::read(proxy.registry.clone())?;
                warn_about_signers(&registry.current(), &proxy.selection);
                let proxy = Proxy::new(proxy, metrics.clone())?;
                (Backend::Proxy(Box::new(proxy)), registry)
            }
            (Mode::Proxy, None) => return Err(ModeError::MissingProxy.into()),
            (Mode::Development, _) => {
                let signer = DevelopmentSigner::new(settings.development_secret.as_ref())?;
                tracing::warn!(
                    signer_id = signer.id(Use::Payload),
                    "DEVELOPMENT SIGNER: the keys are in this process and their signatures prove nothing; set \
                     SIGNING_PROXY_URL and REQUIRE_SIGNING_PROXY=1 in production"
                );
                let registry = LiveRegistry::in_memory(signer.registry());
                (Backend::Development(Box::new(signer)), registry)
            }
        };
        Ok(Self(Arc::new(Inner {
            backend,
            required: settings.required,
            registry,
            health: Health::default(),
            probe_cache: ProbeCache::default(),
            metrics,
        })))
    }

    /// Has a payload signed, and verifies the signature.
    ///
    /// # Errors
    /// Why there is no verified signature; no other signer is tried. A payload that could be taken for something else
    /// ([`postern_signers::possible_uses`]) is rejected.
    pub async fn sign(&self, payload: &[u8]) -> Result<Signed, SigningError> {
        reserved::check(payload, self.payload_uses())?;
        self.sign_as(None, Use::Payload, payload, None).await
    }

    /// Has the digest of a manifest's canonical form signed (RFC 8785, SHA-256).
    ///
    /// # Errors
    /// As for [`Self::sign`], and if the manifest has no canonical form.
    pub async fn sign_manifest(&self, manifest: &Value) -> Result<SignedManifest, SigningError> {
        let canonical = manifest::canonical(manifest)?;
        let hash = manifest::digest(&canonical);
        let Signed {
            signature,
            signer_id,
            signed_at,
            ..
        } = self.sign_as(None, Use::Manifest, &hash, None).await?;
        Ok(SignedManifest {
            hash,
            signature,
            signer_id,
            signed_at,
            canonical,
        })
    }

    /// Has the body of a checkpoint signed. `made` is the checkpoint's own timestamp: the signer must be valid at that
    /// time, because auditors verify the signature for it.
    ///
    /// # Errors
    /// As for [`Self::sign`].
    pub async fn sign_checkpoint(&self, body: &[u8], made: SystemTime) -> Result<Signed, SigningError> {
        self.sign_as(None, Use::Checkpoint, body, Some(made)).await
    }

    /// Has a message signed for a use: by `signer_id`, else by the signer that the settings name. The signer must be valid
    /// at `made`, else now. Health records only requests to the payload signer: other signers say nothing about it.
    pub(crate) async fn sign_as(
        &self,
        signer_id: Option<&str>,
        for_use: Use,
        message: &[u8],
        made: Option<SystemTime>,
    ) -> Result<Signed, SigningError> {
        let started = Instant::now();
        let result = self.sign_verified(signer_id, for_use, message, made).await;
        let elapsed = started.elapsed();
        if signer_id.is_none() && self.is_payload_signer(for_use) {
            self.0.health.record(result.as_ref().err());
        }
        match result {
            Ok(mut signed) => {
                self.0.metrics.signed(&signed.signer_id, self.mode(), elapsed);
                signed.elapsed = elapsed;
                Ok(signed)
            }
            Err(error) => {
                self.0.metrics.failed(error.code(), elapsed);
                Err(error)
            }
        }
    }

    async fn sign_verified(
        &self,
        signer_id: Option<&str>,
        for_use: Use,
        message: &[u8],
        made: Option<SystemTime>,
    ) -> Result<Signed, SigningError> {
        if message.len() > MAX_PAYLOAD_SIZE {
            return Err(SigningError::PayloadTooLarge);
        }
        let (response, proxy_elapsed) = match &self.0.backend {
            Backend::Proxy(proxy) => proxy.sign(signer_id, for_use, message).await?,
            Backend::Development(signer) => {
                let response = signer.sign(for_use, message).ok_or(SigningError::Development)?;
                (response, Duration::ZERO)
            }
        };
        let UnverifiedSignature { signature, signer_id } = response;
        let registry = self.registry();
        let signed_at = made.unwrap_or_else(SystemTime::now);
        match registry.verify_new(&signer_id, for_use, message, &signature, signed_at) {
            Ok(()) => {}
            Err(reason) => return Err(SigningError::Rejected { signer_id, reason }),
        }
        if for_use == Use::Payload {
            // Checked again: the signer is known only now, and the registry may have been reloaded since the request.
            let uses = registry.get(&signer_id).map_or(Uses::ALL, Signer::uses);
            reserved::check(message, uses)?;
        }
        Ok(Signed {
            signature,
            signer_id,
            signed_at,
            elapsed: Duration::ZERO,
            proxy_elapsed,
        })
    }

    /// The uses of all signers that the proxy may choose for a payload.
    fn payload_uses(&self) -> Uses {
        let registry = self.registry();
        let selection = self.selection();
        let signer = selection
            .as_ref()
            .and_then(|selection| selection.signer(Use::Payload));
        match signer {
            Some(id) => registry.get(id).map_or(Uses::NONE, Signer::uses),
            None => {
                let active = registry
                    .iter()
                    .filter(|(_, signer)| signer.status == Status::Active);
                let uses = active.map(|(_, signer)| signer.uses());
                uses.filter(|uses| uses.contains(Use::Payload))
                    .fold(Uses::NONE, Uses::with)
            }
        }
    }

    /// Whether the payload signer signs for this use too.
    fn is_payload_signer(&self, for_use: Use) -> bool {
        self.selection()
            .is_none_or(|selection| selection.signer(for_use) == selection.signer(Use::Payload))
    }

    /// Which signers must sign; `None` for development signers.
    #[must_use]
    pub fn selection(&self) -> Option<Arc<SignerSelection>> {
        match &self.0.backend {
            Backend::Proxy(proxy) => Some(proxy.selection()),
            Backend::Development(_) => None,
        }
    }

    /// Sets which signers must sign from now on. Returns whether that is a change.
    ///
    /// # Errors
    /// If an id is invalid, or several signers must sign and requests do not name the signer. Nothing is changed then.
    pub fn set_selection(&self, selection: &SignerSelection) -> Result<bool, SettingsError> {
        match &self.0.backend {
            Backend::Proxy(proxy) => {
                let changed = proxy.set_selection(selection)?;
                if changed {
                    warn_about_signers(&self.registry(), selection);
                }
                Ok(changed)
            }
            Backend::Development(_) => Ok(false),
        }
    }

    /// What signs.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.0.backend {
            Backend::Proxy(_) => Mode::Proxy,
            Backend::Development(_) => Mode::Development,
        }
    }

    /// The current state. Sends no request.
    #[must_use]
    pub fn state(&self) -> SigningState {
        let (failure, last_signed) = self.0.health.last_results();
        SigningState {
            mode: self.mode(),
            required: self.0.required,
            breaker: match &self.0.backend {
                Backend::Proxy(proxy) => proxy.breaker(),
                Backend::Development(_) => BreakerState::Closed,
            },
            failure,
            last_signed,
        }
    }

    /// The current registry.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.0.registry.current()
    }

    /// Reloads the registry from its file. Returns the changes, sorted by id. The development signers' registry has no
    /// file and never changes. Blocks while it reads the file, which is small.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid. The current registry stays in use.
    pub fn reload_registry(&self) -> Result<Vec<SignerChange>, ReadError> {
        let new = self.read_registry()?;
        Ok(new.map_or_else(Vec::new, |registry| self.replace_registry(registry)))
    }

    /// Reads the registry's file without replacing the current registry; `None` if there is no file. Blocks while it
    /// reads.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
    pub fn read_registry(&self) -> Result<Option<Registry>, ReadError> {
        self.0.registry.read_file()
    }

    /// Replaces the current registry. Returns the changes, sorted by id.
    pub fn replace_registry(&self, registry: Registry) -> Vec<SignerChange> {
        self.0.registry.replace(registry)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    pub(crate) fn probe_cache(&self) -> &ProbeCache {
        &self.0.probe_cache
    }
}

/// Warns about mismatches between the settings and the registry, and about signers valid for every use.
fn warn_about_signers(registry: &Registry, selection: &SignerSelection) {
    for for_use in Use::ALL {
        let Some(id) = selection.signer(for_use) else {
            continue;
        };
        match registry.get(id) {
            None => tracing::warn!(
                signer_id = id,
                for_use = for_use.name(),
                "this signer is not in the registry: nothing will be signed for this use"
            ),
            // Only for a use that the settings name: a host need not have a signer for a use that it never needs.
            Some(signer) if !signer.uses().contains(for_use) && selection.uses.contains_key(&for_use) => {
                tracing::warn!(
                    signer_id = id,
                    for_use = for_use.name(),
                    "the registry does not have this use for this signer: nothing will be signed for this use"
                )
            }
            Some(_) => {}
        }
    }
    for (id, signer) in registry.iter() {
        if signer.uses.is_none() && signer.status == Status::Active {
            tracing::warn!(
                signer_id = id,
                "this signer has no `uses` in the registry and is valid for all of them: create a key for each use, and set \
                 its `uses`"
            );
        }
    }
}
