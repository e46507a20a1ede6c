//! The part of a request that is recorded in the audit log.

use super::redact::redact_target;
use super::truncate;
use crate::request::Request;

/// The longest method in the log, in bytes.
const MAX_METHOD: usize = 256;

/// The recorded part of a request's head. Copied when the request arrives, because a policy may change the head
/// later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    method: String,
    path: String,
    request_id: Option<String>,
}

impl RequestHead {
    /// Copies the recorded part of `request`.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let method = String::from_utf8_lossy(request.method());
        let id = request.id().filter(|id| !id.is_empty());
        Self {
            method: truncate(&method, MAX_METHOD).to_owned(),
            path: redact_target(request.path()),
            request_id: id.map(str::to_owned),
        }
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}
