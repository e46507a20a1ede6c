//! The handle through which everything is signed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use postern_signers::{ReadError, Registry, Signer, Status, Use, Uses};
use serde_json::Value;

use crate::answer::Answer;
use crate::breaker::BreakerState;
use crate::development::Development;
use crate::error::{SigningError, StartError};
use crate::health::{Health, State};
use crate::manifest::{self, SignedManifest};
use crate::metrics::Metrics;
use crate::mode::{Mode, ModeError};
use crate::probe::Probe;
use crate::proxy::Proxy;
use crate::registry::{LiveRegistry, SignerChange};
use crate::reserved;
use crate::settings::{Asked, Settings, SettingsError};

/// The largest payload, in bytes. What is larger is signed by its digest.
pub const PAYLOAD: usize = 1 << 20;

/// A signature that counts: the registry knows its signer, whose key verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Ed25519 (RFC 8032).
    pub signature: [u8; 64],
    /// Whose it is.
    pub signer_id: String,
    /// The moment at which the signer was valid: what else judges by time must take this one.
    pub at: SystemTime,
    /// How long all of it took, verification included.
    pub took: Duration,
    /// How much of it the proxy took, and the way there and back: the attempt that succeeded. Zero without a proxy.
    pub proxy_took: Duration,
}

/// Who makes signatures.
#[derive(Debug)]
pub(crate) enum Source {
    /// The KMS.
    Proxy(Box<Proxy>),
    /// A key of this process.
    Development(Box<Development>),
}

/// Signs, through the KMS. A clone is the same.
#[derive(Debug, Clone)]
pub struct Signing(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    source: Source,
    required: bool,
    registry: LiveRegistry,
    health: Health,
    probe: Probe,
    metrics: Metrics,
}

impl Signing {
    /// Reads the registry, and asks nobody yet.
    ///
    /// # Errors
    /// If settings do not say who signs ([`Mode::of`]) or cannot be used, or the registry cannot be read.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let mode = Mode::of(
            settings.proxy.is_some(),
            settings.required,
            settings.development_secret.is_some(),
        )?;
        let metrics = Metrics::new();
        let (source, registry) = match (mode, &settings.proxy) {
            (Mode::Proxy, Some(proxy)) => {
                let registry = LiveRegistry::read(proxy.registry.clone())?;
                warn(&registry.current(), &proxy.asked);
                let proxy = Proxy::new(proxy, metrics.clone())?;
                (Source::Proxy(Box::new(proxy)), registry)
            }
            (Mode::Proxy, None) => return Err(ModeError::NoProxy.into()),
            (Mode::Development, _) => {
                let signer = Development::new(settings.development_secret.as_ref())?;
                tracing::warn!(
                    signer_id = signer.id(Use::Payload),
                    "DEVELOPMENT SIGNER: the keys are in this process and their signatures prove nothing; set \
                     SIGNING_PROXY_URL and REQUIRE_SIGNING_PROXY=1 where they matter"
                );
                let registry = LiveRegistry::fixed(signer.registry());
                (Source::Development(Box::new(signer)), registry)
            }
        };
        Ok(Self(Arc::new(Parts {
            source,
            required: settings.required,
            registry,
            health: Health::default(),
            probe: Probe::default(),
            metrics,
        })))
    }

    /// Has a payload signed, and the signature verified.
    ///
    /// # Errors
    /// Why there is no signature that counts. Nothing else signs in the signer's place. A payload that could be taken for
    /// something else ([`postern_signers::taken_for`]) is refused.
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
            at: signed_at,
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
        what: Use,
        message: &[u8],
        made: Option<SystemTime>,
    ) -> Result<Signed, SigningError> {
        let began = Instant::now();
        let result = self.verified(signer_id, what, message, made).await;
        let took = began.elapsed();
        if signer_id.is_none() && self.asks_the_same(what) {
            self.0.health.ended(result.as_ref().err());
        }
        match result {
            Ok(mut signed) => {
                self.0.metrics.signed(&signed.signer_id, self.mode(), took);
                signed.took = took;
                Ok(signed)
            }
            Err(error) => {
                self.0.metrics.failed(error.code(), took);
                Err(error)
            }
        }
    }

    async fn verified(
        &self,
        signer_id: Option<&str>,
        what: Use,
        message: &[u8],
        made: Option<SystemTime>,
    ) -> Result<Signed, SigningError> {
        if message.len() > PAYLOAD {
            return Err(SigningError::PayloadTooLarge);
        }
        let (answer, proxy_took) = match &self.0.source {
            Source::Proxy(proxy) => proxy.sign(signer_id, what, message).await?,
            Source::Development(signer) => {
                let answer = signer.sign(what, message).ok_or(SigningError::Development)?;
                (answer, Duration::ZERO)
            }
        };
        let Answer { signature, signer_id } = answer;
        let registry = self.registry();
        let at = made.unwrap_or_else(SystemTime::now);
        match registry.verify_new(&signer_id, what, message, &signature, at) {
            Ok(()) => {}
            Err(refusal) => return Err(SigningError::Refused { signer_id, refusal }),
        }
        if what == Use::Payload {
            // Who signs is known only now, and the registry may have been read again since it was asked.
            let uses = registry.get(&signer_id).map_or(Uses::ALL, Signer::uses);
            reserved::check(message, uses)?;
        }
        Ok(Signed {
            signature,
            signer_id,
            at,
            took: Duration::ZERO,
            proxy_took,
        })
    }

    /// The uses of all who may come to sign a payload.
    fn payload_uses(&self) -> Uses {
        let registry = self.registry();
        let asked = self.asked();
        let signer = asked.as_ref().and_then(|asked| asked.signer(Use::Payload));
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
    fn asks_the_same(&self, what: Use) -> bool {
        self.asked()
            .is_none_or(|asked| asked.signer(what) == asked.signer(Use::Payload))
    }

    /// Who must sign; nothing for the development signers.
    #[must_use]
    pub fn asked(&self) -> Option<Arc<Asked>> {
        match &self.0.source {
            Source::Proxy(proxy) => Some(proxy.asked()),
            Source::Development(_) => None,
        }
    }

    /// Has others sign from now on. Whether they are others than before.
    ///
    /// # Errors
    /// If one has no valid id, or the proxy cannot know who is meant; nothing is taken then.
    pub fn take(&self, asked: &Asked) -> Result<bool, SettingsError> {
        match &self.0.source {
            Source::Proxy(proxy) => {
                let changed = proxy.ask(asked)?;
                if changed {
                    warn(&self.registry(), asked);
                }
                Ok(changed)
            }
            Source::Development(_) => Ok(false),
        }
    }

    /// Who signs.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.0.source {
            Source::Proxy(_) => Mode::Proxy,
            Source::Development(_) => Mode::Development,
        }
    }

    /// How signing is. Asks nobody.
    #[must_use]
    pub fn state(&self) -> State {
        let (failing, last_signed) = self.0.health.recall();
        State {
            mode: self.mode(),
            required: self.0.required,
            breaker: match &self.0.source {
                Source::Proxy(proxy) => proxy.breaker(),
                Source::Development(_) => BreakerState::Closed,
            },
            failing,
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
        Ok(read.map_or_else(Vec::new, |registry| self.take_registry(registry)))
    }

    /// Reads the registry's file again, and leaves the one in service; nothing, if there is no file. Blocks for as long as
    /// that takes.
    ///
    /// # Errors
    /// If the file cannot be read or holds no registry.
    pub fn read_registry(&self) -> Result<Option<Registry>, ReadError> {
        self.0.registry.read_again()
    }

    /// Puts a registry into service at once; what changed, by id.
    pub fn take_registry(&self, registry: Registry) -> Vec<SignerChange> {
        self.0.registry.take(registry)
    }

    /// What is counted and measured.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn source(&self) -> &Source {
        &self.0.source
    }

    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    pub(crate) fn last_probe(&self) -> &Probe {
        &self.0.probe
    }
}

/// Says what of the settings and the registry does not go together, or is weaker than it could be.
fn warn(registry: &Registry, asked: &Asked) {
    for what in Use::ALL {
        let Some(id) = asked.signer(what) else { continue };
        match registry.get(id) {
            None => tracing::warn!(
                signer_id = id,
                for_use = what.name(),
                "the registry does not know this signer: nothing will be signed for this use"
            ),
            // A host that signs nothing of the kind need not name somebody for it.
            Some(signer) if !signer.uses().contains(what) && asked.uses.contains_key(&what) => {
                tracing::warn!(
                    signer_id = id,
                    for_use = what.name(),
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
