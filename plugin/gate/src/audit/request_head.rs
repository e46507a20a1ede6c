//! What the log is told of a request's head.

use super::redact::redact_target;
use super::truncate;
use crate::request::Request;

/// The most bytes of a method.
const MAX_METHOD: usize = 256;

/// Of a request's head what goes into the log. Taken when it comes: a policy may change it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    method: String,
    path: String,
    request_id: Option<String>,
}

impl RequestHead {
    /// Takes it from a request.
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
