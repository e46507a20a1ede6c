//! The contract with policy modules, `postern:policy`, as Rust types.

// The macro's output: no unsafe code of ours, and documented in the WIT.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

wasmtime::component::bindgen!({
    path: "../../policies/wit",
    world: "authorizer",
    imports: {
        "postern:policy/keyvalue": async | trappable,
        "postern:policy/http": async | trappable,
        "postern:policy/signer": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});

pub use postern::policy::types::{Allowance, CacheGrant, Header, Identity, Obligation, Part};
pub use postern::policy::{clock, config, http, keyvalue, log, signer};

impl Part {
    /// The part's name where it is written: `path`, `source-address`, `header:x-a`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Method => "method".into(),
            Self::Scheme => "scheme".into(),
            Self::Authority => "authority".into(),
            Self::Path => "path".into(),
            Self::Query => "query".into(),
            Self::SourceAddress => "source-address".into(),
            Self::Identity => "identity".into(),
            Self::Header(name) => format!("header:{name}"),
        }
    }
}
