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
pub use capability::http::{HttpClient, client};
pub use capability::keyvalue::{Store, is_exposed};
pub use capability::signer::{Caller, Signature as Signed, Signer, Signing, TestSigner};
pub use compiler::{Compiler, compile_as_child};
pub use decision::{Content, Decision, Refusal};
pub use digest::{Digest, NotADigest};
pub use engine::Engines;
pub use failure::Failure;
pub use grants::{Capability, Grants};
pub use limits::Limits;
pub use manifest::{Listed, ListedFile, Manifest, ManifestError, Signature, Signers};
pub use module::{Kind, Module, ModuleError};
pub use policy::{HostServices, LinkError, Outcome, Policy};
pub use registry::{
    Change, Decided, EntrySettings, LoadError, LoadReport, Policies, PolicyStatus, Settings, Source,
};
