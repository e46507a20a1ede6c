//! A policy: a module linked under an entry, with its capabilities and limits.

mod authorizer;
mod wasi_http;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use postern_serve::{AdmissionQueue, NotAdmitted};

use crate::bindings::Request;
use crate::capability::http::HttpClient;
use crate::capability::keyvalue::{MemoryStore, Store};
use crate::capability::signer::Signer;
use crate::entry::Entry;
use crate::grants::Capability;
use crate::module::{Module, ModuleKind};
use crate::scheduler::Flow;
use crate::{Decision, Digest, Engines, Failure};

/// Services of the host that policies share.
#[derive(Debug, Clone)]
pub struct HostServices {
    /// Backend of the `keyvalue` capability.
    pub store: Store,
    /// Client of the `http` capability.
    pub client: HttpClient,
    /// Backend of the `signer` capability; `None` if this host does not sign.
    pub signer: Option<Arc<dyn Signer>>,
}

/// A module ready to evaluate requests.
pub struct Policy {
    entry: Arc<Entry>,
    module: Module,
    runner: Runner,
    queue: Arc<AdmissionQueue>,
    flow: Flow,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.entry.name)
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

type EvaluationFuture<'a> = Pin<Box<dyn Future<Output = Result<Evaluation, Failure>> + Send + 'a>>;

enum Runner {
    Authorizer(authorizer::Runner),
    Http(wasi_http::Runner),
}

/// A module cannot be linked under an entry.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports capabilities that the entry does not grant.
    #[error("needs {}, which the entry does not grant: add it to the entry's `grants` to allow it", list(.0))]
    NotGranted(BTreeSet<Capability>),
    /// It imports `signer`, and the host has no signer.
    #[error("needs `signer`, but this host does not sign: configure `signing` in its settings")]
    NoSigner,
    /// It imports something else that the host does not provide.
    #[error("linking failed: {0}")]
    Link(String),
}

fn list(capabilities: &BTreeSet<Capability>) -> String {
    let names: Vec<_> = capabilities.iter().map(|c| format!("`{}`", c.name())).collect();
    names.join(", ")
}

/// A decision and its memory use.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The validated decision.
    pub decision: Decision,
    /// Memory of the instance when it finished, in bytes.
    pub memory: usize,
}

/// A request that is not admitted is one too many, however long it has waited.
fn not_admitted(error: NotAdmitted) -> Failure {
    match error {
        NotAdmitted::Full | NotAdmitted::Timeout => Failure::Overloaded,
    }
}

impl Policy {
    /// Links a module against the capabilities that its entry grants, and nothing else.
    ///
    /// # Errors
    /// If it imports something that is not granted or does not exist.
    pub(crate) fn link(engines: &Engines, entry: Arc<Entry>, module: Module) -> Result<Self, LinkError> {
        let needs = module.required_capabilities();
        let missing: BTreeSet<_> = needs.difference(&entry.grants.capabilities).copied().collect();
        if !missing.is_empty() {
            return Err(LinkError::NotGranted(missing));
        }
        if needs.contains(&Capability::Signer) && entry.signer.is_none() {
            return Err(LinkError::NoSigner);
        }
        let link = |error: wasmtime::Error| LinkError::Link(format!("{error:#}"));
        let runner = match module.kind() {
            ModuleKind::Authorizer => {
                Runner::Authorizer(authorizer::Runner::new(engines, &entry.grants, &module).map_err(link)?)
            }
            ModuleKind::Http => Runner::Http(wasi_http::Runner::new(engines, &module).map_err(link)?),
        };
        let queue = AdmissionQueue::predictive(entry.limits.concurrency, entry.limits.queue);
        let flow = engines.scheduler.flow(entry.limits.weight);
        Ok(Self {
            entry,
            module,
            runner,
            queue,
            flow,
        })
    }

    /// The module it runs.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The entry's in-memory key-value store.
    pub(crate) fn memory_store(&self) -> &Arc<MemoryStore> {
        &self.entry.memory_store
    }

    /// The module's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.module.digest()
    }

    /// Evaluates a request in a fresh instance, which is dropped afterwards. The deadline covers queueing and evaluation.
    ///
    /// # Errors
    /// The [`Failure`], if there is no decision.
    pub async fn decide(&self, request: &Request) -> Result<Evaluation, Failure> {
        let limit = self.entry.limits.deadline;
        let deadline = Instant::now() + limit;
        let _permit = self.queue.enter(deadline).await.map_err(not_admitted)?;
        let decided = self.flow.run(self.run(request, deadline));
        // Epochs stop a module that is running. This timeout stops one that waits for a slot or for a host call.
        tokio::time::timeout_at(deadline.into(), decided)
            .await
            .unwrap_or(Err(Failure::Deadline(limit)))
    }

    /// Runs the module. A box, so that this crate compiles it, optimised, rather than the programs that await it.
    fn run<'a>(&'a self, request: &'a Request, deadline: Instant) -> EvaluationFuture<'a> {
        match &self.runner {
            Runner::Authorizer(runner) => Box::pin(runner.decide(&self.entry, request, deadline)),
            Runner::Http(runner) => Box::pin(runner.decide(&self.entry, request, deadline)),
        }
    }
}
