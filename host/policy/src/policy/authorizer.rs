//! Modules of the world `postern:policy/authorizer`.

use std::sync::Arc;
use std::time::Instant;

use postern_wasi_http::MemoryLimiter as _;
use wasmtime::Store;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::{self, AuthorizerPre, Request};
use crate::capability::State;
use crate::grants::{Capability, Grants};
use crate::limits::{self, MemoryMeter};
use crate::module::Module;
use crate::{Decision, Engines, Failure};

use crate::entry::Entry;

use super::Evaluation;

pub(super) struct Runner {
    pre: AuthorizerPre<State>,
}

impl Runner {
    pub(super) fn new(engines: &Engines, grants: &Grants, module: &Module) -> wasmtime::Result<Self> {
        type Data = HasSelf<State>;
        let mut linker = Linker::<State>::new(&engines.plain);
        bindings::postern::policy::types::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        if grants.has(Capability::Config) {
            bindings::config::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        if grants.has(Capability::Log) {
            bindings::log::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        if grants.has(Capability::Clock) {
            bindings::clock::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        if grants.has(Capability::Keyvalue) {
            bindings::keyvalue::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        if grants.has(Capability::Http) {
            bindings::http::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        if grants.has(Capability::Signer) {
            bindings::signer::add_to_linker::<_, Data>(&mut linker, |state| state)?;
        }
        let pre = AuthorizerPre::new(linker.instantiate_pre(&module.component)?)?;
        Ok(Self { pre })
    }

    pub(super) async fn decide(
        &self,
        entry: &Arc<Entry>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Evaluation, Failure> {
        let limit = entry.limits.deadline;
        let mut store = Store::new(
            self.pre.engine(),
            State {
                entry: Arc::clone(entry),
                request_id: request.id.clone(),
                meter: MemoryMeter::new(entry.limits.memory),
                log: crate::capability::log::Budget::default(),
                signatures: crate::capability::signer::Budget::default(),
            },
        );
        store.limiter(|state| &mut state.meter);
        limits::apply(&mut store, deadline, limit);

        let call = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            instance.call_authorize(&mut store, request).await
        };
        let result = call.await;
        let decision = Decision::from_module(result.map_err(|error| Failure::from_error(&error))?)?;
        Ok(Evaluation {
            decision,
            memory: store.data().meter.used(),
        })
    }
}
