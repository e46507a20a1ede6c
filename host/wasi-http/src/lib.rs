//! Components that export `wasi:http`, as functions: an HTTP request in, an HTTP response out.
//!
//! All of WASI is linked, but a component has no files, environment, arguments or sockets: only what its [`Sandbox`]
//! provides.
//!
//! A crate of its own because of its weight: linking WASI instantiates most of wasmtime's component code for the type of
//! the store. In development this is compiled once, and not optimised.
#![forbid(unsafe_code)]

mod response;
mod state;

use std::pin::Pin;

use bytes::Bytes;
use futures_channel::oneshot;
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinSet;
use wasmtime::component::{Component, Linker};
use wasmtime::{AsContextMut as _, Engine, Store};
use wasmtime_wasi_http::handler::{Prepared, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p2, p3};

pub use response::ResponseError;
pub use state::{MemoryLimiter, Sandbox, State};

/// A component that exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`, linked.
pub struct Handler {
    pre: ProxyPre<State>,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

/// What [`Handler::call`] returns. A box, so that this crate compiles the future rather than the one that awaits it.
pub type ResponseFuture<'a> =
    Pin<Box<dyn Future<Output = wasmtime::Result<http::Response<Bytes>>> + Send + 'a>>;

impl Handler {
    /// Links a component that was compiled for `engine`, which supports component-model concurrency.
    ///
    /// # Errors
    ///
    /// If the component imports what is not in WASI, or exports neither handler.
    pub fn link(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::<State>::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        let pre = linker.instantiate_pre(component)?;
        let is_p3 = component
            .component_type()
            .exports(engine)
            .any(|(name, _)| name.starts_with("wasi:http/handler@0.3."));
        let pre = if is_p3 {
            ProxyPre::P3(p3::bindings::ServicePre::new(pre)?)
        } else {
            ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?)
        };
        Ok(Self { pre })
    }

    /// A store for one call.
    #[must_use]
    pub fn store(&self, sandbox: Sandbox) -> Store<State> {
        let engine = match &self.pre {
            ProxyPre::P2(pre) => pre.engine(),
            ProxyPre::P3(pre) => pre.engine(),
        };
        let mut store = Store::new(engine, State::new(sandbox));
        store.limiter(State::limiter);
        store
    }

    /// Runs the component until its response is complete, including the body, which may have `max_body` bytes.
    ///
    /// Fails if the component traps or is stopped, or with a [`ResponseError`].
    #[must_use]
    pub fn call<'a>(
        &'a self,
        store: &'a mut Store<State>,
        request: http::Request<Bytes>,
        max_body: usize,
    ) -> ResponseFuture<'a> {
        Box::pin(self.respond(store, request, max_body))
    }

    async fn respond(
        &self,
        store: &mut Store<State>,
        request: http::Request<Bytes>,
        max_body: usize,
    ) -> wasmtime::Result<http::Response<Bytes>> {
        let request = request.map(|body| -> WasiBody {
            let body = Full::new(body).map_err(|never| match never {});
            body.boxed_unsync()
        });
        let proxy = self.pre.instantiate_async(&mut *store).await?;
        let (tx, rx) = oneshot::channel();
        let prepared = Prepared::new(store.as_context_mut(), &proxy, request, WasiHttpView::http, tx)?;
        // The component writes its response while it runs. With `wasi:http` 0.2 nothing else in its store makes progress
        // while it waits for a reader, so a separate task reads the response. The task ends with this call.
        let (send_response, response) = oneshot::channel();
        let (send_error, mut early_error) = oneshot::channel();
        let mut reader_task = JoinSet::new();
        reader_task.spawn(async move {
            let collected = async {
                let response = rx.await.map_err(|_| ResponseError::Missing)??;
                response::collect(response, max_body).await
            };
            // Sending fails only if the receiver is gone.
            match collected.await {
                Ok(response) => drop(send_response.send(response)),
                Err(error) => drop(send_error.send(error)),
            }
        });
        let run = store.run_concurrent(async |accessor| {
            // The caller enforces the deadline.
            let run = prepared.run(accessor, std::future::pending());
            let (ran, response) = tokio::join!(run, response);
            ran?;
            response.map_err(|_| ResponseError::Missing.into())
        });
        tokio::select! {
            biased;
            // This also stops the component, which would otherwise wait for a reader of the rest.
            Ok(error) = &mut early_error => Err(error),
            run = run => run?,
        }
    }
}
