//! The handle through which everything is signed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use postern_signers::{ReadError, Registry};
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
use crate::registry::{Held, SignerChange};
use crate::settings::Settings;

/// The largest payload, in bytes. What is larger is signed by its digest.
pub const PAYLOAD: usize = 1 << 20;

/// A signature that counts: the registry knows its signer, whose key verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Ed25519 (RFC 8032).
    pub signature: [u8; 64],
    /// Whose it is.
    pub signer_id: String,
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
    registry: Held,
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
                let registry = Held::read(proxy.registry.clone())?;
                let known = |id: &String| registry.current().get(id).is_some();
                if let Some(id) = proxy.signer_id.as_ref().filter(|id| !known(id)) {
                    tracing::warn!(
                        signer_id = id,
                        "the registry does not know SIGNER_ID: nothing will be signed"
                    );
                }
                let proxy = Proxy::new(proxy, metrics.clone())?;
                (Source::Proxy(Box::new(proxy)), registry)
            }
            (Mode::Proxy, None) => return Err(ModeError::NoProxy.into()),
            (Mode::Development, _) => {
                let signer = Development::new(settings.development_secret.as_ref())?;
                tracing::warn!(
                    signer_id = signer.id(),
                    "DEVELOPMENT SIGNER: the key is in this process and its signatures are worth nothing; set \
                     SIGNING_PROXY_URL and REQUIRE_SIGNING_PROXY=1 where they matter"
                );
                let registry = Held::of_one(signer.id(), signer.key());
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
    /// Why there is no signature that counts. Nothing else signs in the signer's place.
    pub async fn sign(&self, payload: &[u8]) -> Result<Signed, SigningError> {
        self.sign_as(None, payload).await
    }

    /// Has the digest of a manifest's canonical form signed (RFC 8785, SHA-256).
    ///
    /// # Errors
    /// As [`Self::sign`]; and if the manifest has no canonical form.
    pub async fn sign_manifest(&self, manifest: &Value) -> Result<SignedManifest, SigningError> {
        let canonical = manifest::canonical(manifest)?;
        let hash = manifest::digest(&canonical);
        let Signed {
            signature, signer_id, ..
        } = self.sign(&hash).await?;
        Ok(SignedManifest {
            hash,
            signature,
            signer_id,
            signed_at: SystemTime::now(),
            canonical,
        })
    }

    /// Has a payload signed by a signer, who is not necessarily that of the settings. How it goes with one who is named
    /// here says nothing about the others, so health does not remember it.
    pub(crate) async fn sign_as(
        &self,
        signer_id: Option<&str>,
        payload: &[u8],
    ) -> Result<Signed, SigningError> {
        let began = Instant::now();
        let result = self.verified(signer_id, payload).await;
        let took = began.elapsed();
        if signer_id.is_none() {
            self.0.health.ended(result.as_ref().err());
        }
        match result {
            Ok((answer, proxy_took)) => {
                self.0.metrics.signed(&answer.signer_id, self.mode(), took);
                Ok(Signed {
                    signature: answer.signature,
                    signer_id: answer.signer_id,
                    took,
                    proxy_took,
                })
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
        payload: &[u8],
    ) -> Result<(Answer, Duration), SigningError> {
        if payload.len() > PAYLOAD {
            return Err(SigningError::PayloadTooLarge);
        }
        let (answer, proxy_took) = match &self.0.source {
            Source::Proxy(proxy) => proxy.sign(signer_id, payload).await?,
            Source::Development(signer) => (signer.sign(payload), Duration::ZERO),
        };
        let verdict =
            self.registry()
                .verify_new(&answer.signer_id, payload, &answer.signature, SystemTime::now());
        match verdict {
            Ok(()) => Ok((answer, proxy_took)),
            Err(refusal) => Err(SigningError::Refused {
                signer_id: answer.signer_id,
                refusal,
            }),
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
        self.0.registry.reload()
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
