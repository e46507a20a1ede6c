//! A host in memory and requests in one line, to test a policy natively.

mod host;
pub(crate) mod imports;
mod request;

pub use host::Host;
pub use request::{RequestBuilder, request};
