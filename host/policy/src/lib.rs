//! Policy modules: loaded, verified, bounded, run and swapped.
//!
//! A [`Module`] is a WebAssembly component that was compiled here. Under an entry of the host's settings, which grants
//! it what it may use and bounds it, it becomes a [`Policy`] and decides on requests, each in a fresh instance.
//! [`Policies`] holds the policies of a host by name, and swaps them while they serve.
//!
//! Whatever a module does — loop, recurse, eat memory, answer nonsense — ends as a [`Failure`] of that one decision.

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
