//! The handle through which everything is signed.

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

/// The largest payload, in bytes. What is larger is signed by its digest.
pub const MAX_PAYLOAD_SIZE: usize = 1 << 20;

/// A signature that counts: the registry knows its signer, whose key verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Ed25519 (RFC 8032).
    pub signature: [u8; 64],
    /// Whose it is.
    pub signer_id: String,
    /// The moment at which the signer was valid: what else judges by time must take this one.
    pub signed_at: SystemTime,
    /// How long all of it took, verification included.
    pub elapsed: Duration,
    /// How much of it the proxy took, and the way there and back: the attempt that succeeded. Zero without a proxy.
    pub proxy_elapsed: Duration,
}

/// Who makes signatures.
#[derive(Debug)]
pub(crate) enum Backend {
    /// The KMS.
    Proxy(Box<Proxy>),
    /// A key of this process.
    Development(Box<DevelopmentSigner>),
}

/// Signs, through the KMS. A clone is the same.
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
    /// Reads the registry, and asks nobody yet.
    ///
    /// # Errors
    /// If settings do not say who signs ([`Mode::resolve`]) or cannot be used, or the registry cannot be read.
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
                     SIGNING_PROXY_URL and REQUIRE_SIGNING_PROXY=1 where they matter"
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

    /// Has a payload signed, and the signature verified.
    ///
    /// # Errors
    /// Why there is no signature that counts. Nothing else signs in the signer's place. A payload that could be taken for
    /// something else ([`postern_signers::possible_uses`]) is refused.
    pub async fn sign(&self, payload: &[u8]) -> Result<Signed, SigningError> {
        reserved::check(payload, self.payload_uses())?;
        self.sign_as(None, Use::Payload, payload, None).await
    }

    /// Has the digest of a manifest's canonical form signed (RFC 8785, SHA-256).
    ///
    /// # Errors
    /// As [`Self::sign`]; and if the manifest has no canonical form.
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

    /// Has the body of a checkpoint signed, which says that it was made at a moment: whoever verifies it judges by that
    /// moment, and so does this.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub async fn sign_checkpoint(&self, body: &[u8], made: SystemTime) -> Result<Signed, SigningError> {
        self.sign_as(None, Use::Checkpoint, body, Some(made)).await
    }

    /// Has a message signed for a use, by the signer of the settings unless one is named; valid at a moment, or now. How it
    /// goes with another signer than that of payloads says nothing about that one, so health does not remember it.
    pub(crate) async fn sign_as(
        &self,
        signer_id: Option<&str>,
        for_use: Use,
        message: &[u8],
        made: Option<SystemTime>,
    ) -> Result<Signed, SigningError> {
        let began = Instant::now();
        let result = self.sign_verified(signer_id, for_use, message, made).await;
        let elapsed = began.elapsed();
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
            // Who signs is known only now, and the registry may have been read again since it was asked.
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

    /// The uses of all who may come to sign a payload.
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

    /// Whether the one who signs payloads signs for this use too.
    fn is_payload_signer(&self, for_use: Use) -> bool {
        self.selection()
            .is_none_or(|selection| selection.signer(for_use) == selection.signer(Use::Payload))
    }

    /// Who must sign; nothing for the development signers.
    #[must_use]
    pub fn selection(&self) -> Option<Arc<SignerSelection>> {
        match &self.0.backend {
            Backend::Proxy(proxy) => Some(proxy.selection()),
            Backend::Development(_) => None,
        }
    }

    /// Has others sign from now on. Whether they are others than before.
    ///
    /// # Errors
    /// If one has no valid id, or the proxy cannot know who is meant; nothing is taken then.
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

    /// Who signs.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.0.backend {
            Backend::Proxy(_) => Mode::Proxy,
            Backend::Development(_) => Mode::Development,
        }
    }

    /// How signing is. Asks nobody.
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

    /// The registry in service.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.0.registry.current()
    }

    /// Reads the registry's file again and puts it into service at once; tells what changed, by id. The development
    /// signer's registry has no file, and never changes. Reads a small file: it blocks for that long.
    ///
    /// # Errors
    /// If the file cannot be read or holds no registry. The one in service stays.
    pub fn reload_registry(&self) -> Result<Vec<SignerChange>, ReadError> {
        let read = self.read_registry()?;
        Ok(read.map_or_else(Vec::new, |registry| self.replace_registry(registry)))
    }

    /// Reads the registry's file again, and leaves the one in service; nothing, if there is no file. Blocks for as long as
    /// that takes.
    ///
    /// # Errors
    /// If the file cannot be read or holds no registry.
    pub fn read_registry(&self) -> Result<Option<Registry>, ReadError> {
        self.0.registry.read_file()
    }

    /// Puts a registry into service at once; what changed, by id.
    pub fn replace_registry(&self, registry: Registry) -> Vec<SignerChange> {
        self.0.registry.replace(registry)
    }

    /// What is counted and measured.
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

/// Says what of the settings and the registry does not go together, or is weaker than it could be.
fn warn_about_signers(registry: &Registry, selection: &SignerSelection) {
    for for_use in Use::ALL {
        let Some(id) = selection.signer(for_use) else {
            continue;
        };
        match registry.get(id) {
            None => tracing::warn!(
                signer_id = id,
                for_use = for_use.name(),
                "the registry does not know this signer: nothing will be signed for this use"
            ),
            // A host that signs nothing of the kind need not name somebody for it.
            Some(signer) if !signer.uses().contains(for_use) && selection.uses.contains_key(&for_use) => {
                tracing::warn!(
                    signer_id = id,
                    for_use = for_use.name(),
                    "the registry has other uses for this signer: nothing will be signed for this use"
                )
            }
            Some(_) => {}
        }
    }
    for (id, signer) in registry.iter() {
        if signer.uses.is_none() && signer.status == Status::Active {
            tracing::warn!(
                signer_id = id,
                "this signer has no `uses` in the registry and counts for all of them: make a key for each use, and name \
                 its use"
            );
        }
    }
}
