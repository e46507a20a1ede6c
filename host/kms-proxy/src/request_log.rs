//! The request log: one line for each request, with the target `postern_kms_proxy::audit`.
//!
//! It records the caller, the signer and the result; of the payload it has only the SHA-256. A signature is released
//! only once its line is written.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use postern_serve::{WriteReceipt, log_awaited, log_record};

use crate::metrics::Metrics;

/// What is known about a request so far.
#[derive(Debug, Default)]
struct RequestFields {
    caller: Option<String>,
    signer: Option<String>,
    payload: Option<String>,
    result: Option<Completion>,
    /// The result in the last written line.
    written: Option<Completion>,
}

/// The result, and the status of the response.
type Completion = (&'static str, u16);

/// The record of a request in progress. It is written at the latest when the last clone is dropped, so that requests
/// whose client disconnects are recorded as well.
#[derive(Debug, Clone)]
pub(crate) struct RequestRecord(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    method: String,
    path: String,
    started: Instant,
    metrics: Arc<Metrics>,
    fields: Mutex<RequestFields>,
}

impl RequestRecord {
    pub(crate) fn new(id: String, method: &str, path: &str, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            id,
            method: method.to_owned(),
            path: path.to_owned(),
            started: Instant::now(),
            metrics,
            fields: Mutex::default(),
        }))
    }

    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// Sets the caller.
    pub(crate) fn caller(&self, name: String) {
        self.update(|fields| fields.caller = Some(name));
    }

    /// Sets the requested signer, which is one of the settings.
    pub(crate) fn signer(&self, id: &str) {
        self.update(|fields| fields.signer = Some(id.to_owned()));
    }

    /// Sets the SHA-256 of the payload.
    pub(crate) fn payload(&self, digest: String) {
        self.update(|fields| fields.payload = Some(digest));
    }

    /// Sets the result.
    pub(crate) fn complete(&self, result: &'static str, status: u16) {
        self.update(|fields| fields.result = Some((result, status)));
    }

    /// Writes the record now; the receipt resolves when it is written. If the result changes later, another line is
    /// written.
    pub(crate) fn write(&self) -> WriteReceipt {
        let mut fields = self.0.fields.lock().unwrap_or_else(PoisonError::into_inner);
        let completion = fields.completion();
        fields.written = Some(completion);
        log_record(|| self.0.log(&fields, completion))
    }

    /// Writes the record now, unless it is already written with this result.
    pub(crate) fn close(&self) -> Option<WriteReceipt> {
        let mut fields = self.0.fields.lock().unwrap_or_else(PoisonError::into_inner);
        let completion = fields.result.filter(|_| fields.result != fields.written)?;
        fields.written = Some(completion);
        Some(log_awaited(|| self.0.log(&fields, completion)))
    }

    fn update(&self, change: impl FnOnce(&mut RequestFields)) {
        change(&mut self.0.fields.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl RequestFields {
    /// Without a result, the client disconnected: a signature may have been made, but was not delivered.
    fn completion(&self) -> Completion {
        self.result.unwrap_or(("abandoned", 0))
    }
}

impl Inner {
    fn log(&self, fields: &RequestFields, (result, status): Completion) {
        tracing::info!(
            target: "postern_kms_proxy::audit",
            request_id = self.id,
            method = self.method,
            path = self.path,
            caller = fields.caller,
            signer_id = fields.signer,
            payload_sha256 = fields.payload,
            result,
            status,
            latency_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let fields = std::mem::take(self.fields.get_mut().unwrap_or_else(PoisonError::into_inner));
        let completion = fields.completion();
        self.metrics.request_completed(completion.0);
        if fields.written != Some(completion) {
            self.log(&fields, completion);
        }
    }
}
