//! A policy: a module under an entry's name, with what it is granted and bounded by.

mod authorizer;
mod wasi_http;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use postern_serve::{AdmissionQueue, NotAdmitted};
use serde_json::value::RawValue;

use crate::bindings::Request;
use crate::capability::http::HttpClient;
use crate::capability::keyvalue::{MemoryStore, Store};
use crate::capability::signer::Signer;
use crate::grants::{Capability, Grants};
use crate::limits::Limits;
use crate::module::{Kind, Module};
use crate::scheduler::Lane;
use crate::{Decision, Digest, Engines, Failure};

/// What policies share of their surroundings.
#[derive(Debug, Clone)]
pub struct HostServices {
    /// Where the `keyvalue` capability keeps its values.
    pub store: Store,
    /// What the `http` capability asks with.
    pub client: HttpClient,
    /// What the `signer` capability signs with, if this host signs.
    pub signer: Option<Arc<dyn Signer>>,
}

/// An entry of the host's settings: what the modules of its name may do. Kept over a swap of the module.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) grants: Grants,
    pub(crate) config: Box<RawValue>,
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    pub(crate) shelf: Arc<MemoryStore>,
    pub(crate) client: HttpClient,
    pub(crate) signer: Option<Arc<dyn Signer>>,
}

/// A module that is ready to decide.
pub struct Policy {
    entry: Arc<Entry>,
    module: Module,
    runner: Runner,
    queue: Arc<AdmissionQueue>,
    lane: Lane,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.entry.name)
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

enum Runner {
    Authorizer(authorizer::Runner),
    Http(wasi_http::Runner),
}

/// Why a module cannot be a policy under an entry.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It needs what it is not granted.
    #[error("needs {}, which the entry does not grant: add it to `grants` if the module may have it", list(.0))]
    NotGranted(BTreeSet<Capability>),
    /// It needs the KMS.
    #[error("needs `signer`, and this host does not sign: give its settings `signing`")]
    NoSigner,
    /// It needs something that the host does not have.
    #[error("cannot be linked: {0}")]
    Link(String),
}

fn list(capabilities: &BTreeSet<Capability>) -> String {
    let names: Vec<_> = capabilities.iter().map(|c| format!("`{}`", c.name())).collect();
    names.join(", ")
}

/// A decision, and what it took.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The decision.
    pub decision: Decision,
    /// Bytes of memory that the instance had at its end.
    pub memory: usize,
}

/// A request that has no turn is one too many, however long it has waited.
fn refused(refusal: NotAdmitted) -> Failure {
    match refusal {
        NotAdmitted::Full | NotAdmitted::Late => Failure::Overloaded,
    }
}

impl Policy {
    /// Links a module with what its entry grants, and with nothing else.
    ///
    /// # Errors
    /// If it imports what is not granted or not there.
    pub(crate) fn link(engines: &Engines, entry: Arc<Entry>, module: Module) -> Result<Self, LinkError> {
        let needs = module.needs();
        let missing: BTreeSet<_> = needs.difference(&entry.grants.capabilities).copied().collect();
        if !missing.is_empty() {
            return Err(LinkError::NotGranted(missing));
        }
        if needs.contains(&Capability::Signer) && entry.signer.is_none() {
            return Err(LinkError::NoSigner);
        }
        let link = |error: wasmtime::Error| LinkError::Link(format!("{error:#}"));
        let runner = match module.kind() {
            Kind::Authorizer => {
                Runner::Authorizer(authorizer::Runner::new(engines, &entry.grants, &module).map_err(link)?)
            }
            Kind::Http => Runner::Http(wasi_http::Runner::new(engines, &module).map_err(link)?),
        };
        let queue = AdmissionQueue::predicting(entry.limits.concurrency, entry.limits.queue);
        let lane = engines.scheduler.lane(entry.limits.weight);
        Ok(Self {
            entry,
            module,
            runner,
            queue,
            lane,
        })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What the entry keeps in memory.
    pub(crate) fn shelf(&self) -> &Arc<MemoryStore> {
        &self.entry.shelf
    }

    /// The module's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.module.digest()
    }

    /// Decides on a request, in a fresh instance that is gone afterwards.
    ///
    /// # Errors
    /// Why there is no decision. The deadline holds for the wait for a turn and for the decision together.
    pub async fn decide(&self, request: &Request) -> Result<Outcome, Failure> {
        let limit = self.entry.limits.deadline;
        let deadline = Instant::now() + limit;
        let _turn = self.queue.enter(deadline).await.map_err(refused)?;
        let decided = self.lane.run(async {
            match &self.runner {
                Runner::Authorizer(runner) => runner.decide(&self.entry, request, deadline).await,
                Runner::Http(runner) => runner.decide(&self.entry, request, deadline).await,
            }
        });
        // Of a module that runs, the epochs take care; of one that waits, for its turn or for the host, this does.
        tokio::time::timeout_at(deadline.into(), decided)
            .await
            .unwrap_or(Err(Failure::Deadline(limit)))
    }
}
