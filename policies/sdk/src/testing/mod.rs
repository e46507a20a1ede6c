//! An in-memory host and a request builder, for native tests of policies.

mod host;
pub(crate) mod imports;
mod request;

pub use host::Host;
pub use request::{RequestBuilder, request};
