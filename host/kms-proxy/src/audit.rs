//! The proxy's own record: a line of the log for each request, at the target `postern_kms_proxy::audit`.
//!
//! It says who asked for what to be signed by whom and what became of it; of the payload it has the SHA-256. A signature
//! is handed on only once its line is written.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use postern_serve::{Receipt, awaited, record};

use crate::metrics::Metrics;

/// What is known of a request so far.
#[derive(Debug, Default)]
struct Facts {
    caller: Option<String>,
    signer: Option<String>,
    payload: Option<String>,
    result: Option<Ending>,
    /// What a line says already.
    written: Option<Ending>,
}

/// A result, and the status of its answer.
type Ending = (&'static str, u16);

/// The record of a request that is being answered. It is written when the last who holds it lets go, if not before, so
/// that a request whose client goes away leaves a line too.
#[derive(Debug, Clone)]
pub(crate) struct Record(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    method: String,
    path: String,
    started: Instant,
    metrics: Arc<Metrics>,
    facts: Mutex<Facts>,
}

impl Record {
    pub(crate) fn new(id: String, method: &str, path: &str, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            id,
            method: method.to_owned(),
            path: path.to_owned(),
            started: Instant::now(),
            metrics,
            facts: Mutex::default(),
        }))
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// Who asks.
    pub(crate) fn caller(&self, name: String) {
        self.note(|facts| facts.caller = Some(name));
    }

    /// Whose signature is asked for: a signer of the settings.
    pub(crate) fn signer(&self, id: &str) {
        self.note(|facts| facts.signer = Some(id.to_owned()));
    }

    /// The SHA-256 of what is to be signed.
    pub(crate) fn payload(&self, digest: String) {
        self.note(|facts| facts.payload = Some(digest));
    }

    /// How it ends.
    pub(crate) fn ends(&self, result: &'static str, status: u16) {
        self.note(|facts| facts.result = Some((result, status)));
    }

    /// Writes it now, for who waits until it is written. If it ends otherwise after all, another line says so.
    pub(crate) fn write(&self) -> Receipt {
        let mut facts = self.0.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = facts.ending();
        facts.written = Some(ending);
        record(|| self.0.line(&facts, ending))
    }

    /// Writes it now, unless a line says all of it already.
    pub(crate) fn close(&self) -> Option<Receipt> {
        let mut facts = self.0.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = facts.result.filter(|_| facts.result != facts.written)?;
        facts.written = Some(ending);
        Some(awaited(|| self.0.line(&facts, ending)))
    }

    fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.0.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Facts {
    /// Without a result the client went away: what was begun may have been done, and nobody got it.
    fn ending(&self) -> Ending {
        self.result.unwrap_or(("abandoned", 0))
    }
}

impl Inner {
    fn line(&self, facts: &Facts, (result, status): Ending) {
        tracing::info!(
            target: "postern_kms_proxy::audit",
            request_id = self.id,
            method = self.method,
            path = self.path,
            caller = facts.caller,
            signer_id = facts.signer,
            payload_sha256 = facts.payload,
            result,
            status,
            latency_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let facts = std::mem::take(self.facts.get_mut().unwrap_or_else(PoisonError::into_inner));
        let ending = facts.ending();
        self.metrics.answered(ending.0);
        if facts.written != Some(ending) {
            self.line(&facts, ending);
        }
    }
}
