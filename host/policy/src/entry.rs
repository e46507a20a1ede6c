//! A policy entry of the host's settings.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::capability::http::HttpClient;
use crate::capability::keyvalue::{MemoryStore, Store};
use crate::capability::signer::Signer;
use crate::grants::Grants;
use crate::limits::Limits;

/// An entry of the host's settings: the capabilities, limits and services of its policies.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) grants: Grants,
    pub(crate) config: Box<RawValue>,
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    /// Shared by all policies of the entry, so that values survive a swap.
    pub(crate) memory_store: Arc<MemoryStore>,
    pub(crate) client: HttpClient,
    pub(crate) signer: Option<Arc<dyn Signer>>,
}
