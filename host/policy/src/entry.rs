//! An entry of the host's settings, as its policies run under it.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::capability::http::HttpClient;
use crate::capability::keyvalue::{MemoryStore, Store};
use crate::capability::signer::Signer;
use crate::grants::Grants;
use crate::limits::Limits;

/// An entry of the host's settings: what the modules of its name may do. Kept over a swap of the module.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) grants: Grants,
    pub(crate) config: Box<RawValue>,
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    pub(crate) memory_store: Arc<MemoryStore>,
    pub(crate) client: HttpClient,
    pub(crate) signer: Option<Arc<dyn Signer>>,
}
