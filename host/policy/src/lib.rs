//! Loads, verifies, limits, runs and swaps policy modules.
//!
//! A [`Module`] is a WebAssembly component compiled by this host. Linked under an entry of the host's settings, which
//! sets its capabilities and limits, it becomes a [`Policy`]. A policy evaluates each request in a fresh instance.
//! [`Policies`] holds the policies of a host by name and swaps them without interrupting requests.
//!
//! A module that loops, recurses, exhausts memory or returns malformed data only fails its own decision, with a
//! [`Failure`].

#![warn(missing_docs)]

mod bindings;
mod bounds;
mod cache;
mod capability;
pub mod cases;
mod compiler;
mod decision;
mod digest;
mod engine;
mod entry;
mod failure;
mod grants;
mod limits;
mod manifest;
mod module;
mod policy;
mod registry;
mod scheduler;

pub use bindings::{Allowance, CacheGrant, Header, Identity, Obligation, Part, Request};
pub use cache::{Cache, CacheError};
pub use capability::http::{HttpClient, http_client};
pub use capability::keyvalue::{Store, is_insecure};
pub use capability::signer::{PayloadSignature, Signer, SigningContext, SigningFuture, TestSigner};
pub use compiler::{Compiler, compile_in_child};
pub use decision::{Decision, DenialContent, DenialResponse};
pub use digest::{Digest, ParseDigestError};
pub use engine::Engines;
pub use failure::Failure;
pub use grants::{Capability, Grants};
pub use limits::Limits;
pub use manifest::{ListedFile, ListedModule, Manifest, ManifestError, Signature, Signers};
pub use module::{Module, ModuleError, ModuleKind};
pub use policy::{Evaluation, HostServices, LinkError, Policy};
pub use registry::{
    Change, EntrySettings, LoadError, LoadReport, Policies, PolicyDecision, PolicyStatus, Settings, Source,
};
