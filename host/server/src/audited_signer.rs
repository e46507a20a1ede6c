//! Audited signatures: no signature leaves the host before its event is durable.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use ct_codecs::{Base64, Encoder as _};
use postern_audit::{
    AppendError, Checkpoint, CheckpointSigner, Decision, Event, Kind, ManifestSignature, Time,
};
use postern_policy::{Digest, Signer, SigningFuture};
use postern_signers::{SignatureError, Status, Use, first_line};
use postern_signing::{
    Rotation, RotationSignature, SettingsError, Signed, SignedManifest, SignerChangeKind, SignerSelection,
    Signing, SigningError,
};
use serde_json::{Value, json};

use crate::recorder::{Caller, Recorder, micros};

/// Signs through [`Signing`] and records every signature.
#[derive(Debug)]
pub(crate) struct AuditedSigner {
    signing: Signing,
    recorder: Recorder,
    /// The first line of the audit log's checkpoints; `None` without a log.
    origin: Option<String>,
    /// Why the registry could not be reloaded, once that is logged.
    registry_error: Mutex<Option<String>>,
    /// Held while a manifest's signature enters the log's queue, and while the registry changes and those events enter
    /// it: the log holds a signer's signatures before its retirement.
    order: Mutex<()>,
}

/// A signature is not released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// Nothing was signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The payload begins like the checkpoints of this host's log.
    #[error(
        "the payload begins with the origin of the audit log: such payloads are signed only for the host itself"
    )]
    Reserved,
    /// The signature was made, but could not be recorded.
    #[error("the signature could not be recorded, so it was not released: {0}")]
    Unrecorded(#[from] AppendError),
}

impl SignError {
    /// The reason code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Signing(error) => error.code(),
            Self::Reserved => "payload_reserved",
            Self::Unrecorded(error) => error.code(),
        }
    }
}

impl AuditedSigner {
    pub(crate) fn new(signing: Signing, recorder: Recorder, origin: Option<String>) -> Self {
        Self {
            signing,
            recorder,
            origin,
            registry_error: Mutex::default(),
            order: Mutex::default(),
        }
    }

    pub(crate) fn signing(&self) -> &Signing {
        &self.signing
    }

    /// Signs a payload.
    pub(crate) async fn sign(&self, caller: Caller<'_>, payload: &[u8]) -> Result<Signed, SignError> {
        let started = Instant::now();
        if self.origin.is_some() && self.origin == Some(first_line(payload)) {
            let mut event = self.event(Kind::Signature, caller, started, None);
            event.decision = Some(Decision::Denied);
            event.reason = Some(SignError::Reserved.code().to_owned());
            self.recorder.record(|| event);
            return Err(SignError::Reserved);
        }
        let result = self.signing.sign(payload).await;
        let mut event = self.event(Kind::Signature, caller, started, result.as_ref().err());
        if let Err(SigningError::Reserved(_)) = result {
            event.decision = Some(Decision::Denied);
        }
        let digest = Digest::of(payload).to_string();
        event.detail.insert("payload_digest".to_owned(), digest.into());
        let signed = self.or_record(result, &mut event)?;
        event.signer_id = Some(signed.signer_id.clone());
        self.recorder.record_durably(event).await?;
        Ok(signed)
    }

    /// Signs a manifest: the SHA-256 of its canonical form (RFC 8785).
    pub(crate) async fn sign_manifest(
        &self,
        caller: Caller<'_>,
        manifest: &Value,
    ) -> Result<SignedManifest, SignError> {
        let started = Instant::now();
        let result = self.signing.sign_manifest(manifest).await;
        let mut event = self.event(Kind::ManifestSignature, caller, started, result.as_ref().err());
        let signed = self.or_record(result, &mut event)?;
        event.signer_id = Some(signed.signer_id.clone());
        let hash = postern_audit::Hash(signed.hash);
        event
            .detail
            .insert("manifest_hash".to_owned(), hash.to_string().into());
        let row = ManifestSignature {
            manifest_hash: hash,
            signature: signed.signature,
            signer_id: signed.signer_id.clone(),
            signed_at: Time::of(signed.signed_at),
        };
        if let Some(log) = self.recorder.log()
            && let Err(error) = self
                .append_in_order(&signed, log.record_manifest(row, event))
                .await
        {
            if let SignError::Signing(error) = &error {
                let event = self.event(Kind::ManifestSignature, caller, started, Some(error));
                self.recorder.record(|| event);
            }
            return Err(error);
        }
        Ok(signed)
    }

    /// Appends a signature to the log, unless its signer was retired after signing. The append enters the log's queue
    /// on the first poll, under the lock, so that nothing comes between the check and the append.
    async fn append_in_order<T>(
        &self,
        signed: &SignedManifest,
        writing: impl Future<Output = Result<T, AppendError>>,
    ) -> Result<T, SignError> {
        let mut writing = pin!(writing);
        let mut begun = false;
        poll_fn(|context| {
            let first = !std::mem::replace(&mut begun, true);
            let _order = first.then(|| self.order.lock().unwrap_or_else(PoisonError::into_inner));
            if first && let Err(error) = self.check_still_trusted(signed) {
                return Poll::Ready(Err(error.into()));
            }
            writing.as_mut().poll(context).map_err(SignError::from)
        })
        .await
    }

    fn check_still_trusted(&self, signed: &SignedManifest) -> Result<(), SigningError> {
        let registry = self.signing.registry();
        let signer = registry
            .get(&signed.signer_id)
            .ok_or(SignatureError::UnknownSigner);
        let may = signer.and_then(|signer| signer.may_sign(Use::Manifest, signed.signed_at));
        may.map_err(|reason| SigningError::Rejected {
            signer_id: signed.signer_id.clone(),
            reason,
        })
    }

    fn event(&self, kind: Kind, caller: Caller<'_>, started: Instant, error: Option<&SigningError>) -> Event {
        let decision = if error.is_some() {
            Decision::Failed
        } else {
            Decision::Allowed
        };
        let mut event = self.recorder.event_for(kind, decision, caller);
        event.reason = error.map(|error| error.code().to_owned());
        event.latency_us = Some(micros(started.elapsed()));
        event
    }

    /// Records a failure without waiting for the log, and logs it.
    fn or_record<T>(&self, result: Result<T, SigningError>, event: &mut Event) -> Result<T, SignError> {
        result.map_err(|error| {
            let (code, request_id) = (error.code(), event.request_id.as_deref());
            tracing::warn!(code, request_id, %error, "nothing signed");
            self.recorder.record(|| event.clone());
            error.into()
        })
    }

    /// Why nothing can be signed now. Calls the proxy, unless something was signed recently.
    pub(crate) async fn fault(&self) -> Option<String> {
        let fault = self.signing.ready().await.err()?;
        Some(format!("{}: {fault}", fault.code()))
    }

    /// Whether the settings require signing.
    pub(crate) fn is_required(&self) -> bool {
        self.signing.state().required
    }

    /// Switches to other signers, if the selection differs.
    pub(crate) fn select_signers(&self, selection: &SignerSelection) -> Result<(), SettingsError> {
        if self.signing.set_selection(selection)? {
            let signer = selection.signer_id.as_deref();
            tracing::info!(signer, "the selected signer has changed");
            self.recorder.record(|| {
                let mut event = self.recorder.event(Kind::Settings, Decision::Allowed);
                event.reason = Some("signer_asked".to_owned());
                event.signer_id = signer.map(ToOwned::to_owned);
                for what in Use::ALL {
                    let id = selection.uses.get(&what).cloned();
                    event
                        .detail
                        .extend(id.map(|id| (what.name().to_owned(), id.into())));
                }
                event
            });
        }
        Ok(())
    }

    /// Records the signers that are already retired: the retirement of a signer while no host ran would be missing from
    /// the log otherwise.
    pub(crate) fn record_retired(&self) {
        let registry = self.signing.registry();
        let retired = registry
            .iter()
            .filter(|(_, signer)| signer.status == Status::Retired);
        for (id, _) in retired {
            self.recorder.record(|| {
                let mut event = self.change(id, SignerChangeKind::Retired);
                event.detail.insert("found".to_owned(), "start".into());
                event
            });
        }
    }

    fn change(&self, signer: &str, what: SignerChangeKind) -> Event {
        let mut event = self.recorder.event(Kind::Signer, Decision::Allowed);
        event.reason = Some(what.name().to_owned());
        event.signer_id = Some(signer.to_owned());
        event
    }

    /// Why the registry of signers could not be reloaded; `None` if it could.
    pub(crate) fn registry_error(&self) -> Option<String> {
        self.registry_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Logs, once per reason, that the registry of signers cannot be reloaded.
    pub(crate) fn report_registry_error(&self, reason: String) {
        let mut registry_error = self.registry_error.lock().unwrap_or_else(PoisonError::into_inner);
        if registry_error.as_ref() != Some(&reason) {
            tracing::error!(reason, "signers not reloaded; the previous ones stay in force");
            *registry_error = Some(reason);
        }
    }

    /// Reloads the registry of signers and records the changes. Returns whether the registry could be read.
    pub(crate) fn reload(&self) -> bool {
        // The file is read first, so that the lock is not held while waiting for a disk.
        match self.signing.read_registry() {
            Ok(registry) => {
                let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
                let changes = registry.map(|registry| self.signing.replace_registry(registry));
                for change in changes.into_iter().flatten() {
                    let (signer, what) = (change.signer_id, change.kind);
                    tracing::info!(signer, what = what.name(), "signers");
                    self.recorder.record(|| self.change(&signer, what));
                }
            }
            Err(error) => {
                self.report_registry_error(error.to_string());
                return false;
            }
        }
        *self.registry_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        true
    }

    /// Records that one signer takes over from another, with the signatures that attest to it.
    pub(crate) async fn rotate(&self, caller: Caller<'_>, old: &str, new: &str) -> Result<Value, SignError> {
        let started = Instant::now();
        let rotated = self.signing.rotate(old, new).await;
        let mut event = self.event(Kind::SignerRotation, caller, started, rotated.as_ref().err());
        event.signer_id = Some(new.to_owned());
        let rotated = self.or_record(rotated, &mut event)?;
        let document = document(&rotated);
        if let Value::Object(fields) = &document {
            event.detail.extend(fields.clone());
        }
        self.recorder.record_durably(event).await?;
        Ok(document)
    }
}

/// The statement that one signer takes over from another, with its signatures: `old` and `new` by these two, `by` by a
/// delegate.
fn document(rotation: &Rotation) -> Value {
    let mut document = serde_json::Map::new();
    let statement = String::from_utf8_lossy(&rotation.statement);
    document.insert("statement".to_owned(), statement.into());
    for signature in &rotation.signatures {
        let (role, signed) = match signature {
            RotationSignature::New(signed) => ("new", signed),
            RotationSignature::Old(signed) => ("old", signed),
            RotationSignature::Delegate(signed) => ("by", signed),
        };
        let signature = json!({
            "signature_b64": Base64::encode_to_string(signed.signature).unwrap_or_default(),
            "signer_id": signed.signer_id,
        });
        document.insert(role.to_owned(), signature);
    }
    Value::Object(document)
}

impl Signer for AuditedSigner {
    fn sign<'a>(
        &'a self,
        caller: postern_policy::SigningContext<'a>,
        payload: &'a [u8],
    ) -> SigningFuture<'a> {
        Box::pin(async move {
            let caller = Caller {
                policy: Some(caller.policy),
                request_id: Some(caller.request_id),
                ..Caller::default()
            };
            let signed = Self::sign(self, caller, payload).await;
            let signed = signed.map_err(|error| error.code().to_owned())?;
            Ok(postern_policy::PayloadSignature {
                bytes: signed.signature.to_vec(),
                signer_id: signed.signer_id,
            })
        })
    }
}

/// Signs checkpoints of the log. They are not recorded: the checkpoint itself is the record.
#[derive(Debug)]
pub(crate) struct LogCheckpointSigner(pub(crate) Signing);

impl CheckpointSigner for LogCheckpointSigner {
    fn sign<'a>(&'a self, body: &'a [u8]) -> postern_audit::SignFuture<'a> {
        Box::pin(async move {
            // The signer must be valid at the time of the checkpoint: auditors verify it against that time.
            let checkpoint = str::from_utf8(body)
                .ok()
                .and_then(|body| Checkpoint::parse(body).ok());
            let made = checkpoint.ok_or("the note is not a checkpoint")?.time.system();
            let signed = self.0.sign_checkpoint(body, made).await;
            let signed = signed.map_err(|error| error.to_string())?;
            // The registry may have been reloaded in the meantime.
            let registry = self.0.registry();
            let signer = registry.get(&signed.signer_id).ok_or("the signer was removed")?;
            Ok(postern_audit::CheckpointSignature {
                signature: signed.signature,
                public_key: *signer.key,
                signer_id: signed.signer_id,
            })
        })
    }
}
