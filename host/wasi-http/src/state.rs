//! What a component can reach.

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::StdoutStream;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Bounds the memory of a store, and counts it.
pub trait MemoryLimiter: ResourceLimiter + Send + Sync {
    /// The memory used, in bytes.
    fn used(&self) -> usize;
}

/// Everything that a component is given for one call.
pub struct Sandbox {
    /// Receives its standard output.
    pub stdout: Box<dyn StdoutStream + Sync>,
    /// Receives its standard error.
    pub stderr: Box<dyn StdoutStream + Sync>,
    /// Makes its outgoing requests, or refuses them.
    pub outgoing: Box<dyn WasiHttpHooks>,
    /// Bounds its memory.
    pub memory: Box<dyn MemoryLimiter>,
    /// The most random bytes that one call returns.
    pub max_random: u64,
}

/// The store's data for one call.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: Box<dyn WasiHttpHooks>,
    memory: Box<dyn MemoryLimiter>,
}

impl State {
    pub(crate) fn new(sandbox: Sandbox) -> Self {
        let wasi = WasiCtx::builder()
            .stdout(sandbox.stdout)
            .stderr(sandbox.stderr)
            .max_random_size(sandbox.max_random)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self {
            wasi,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            outgoing: sandbox.outgoing,
            memory: sandbox.memory,
        }
    }

    /// The memory of the instance, in bytes.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.memory.used()
    }

    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut *self.memory
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut *self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
