//! The wasmtime engines, with the reason beside each setting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Compiler;
use crate::limits::MAX_MEMORIES;
use crate::scheduler::Scheduler;

/// Epoch interval. A running module is stopped at most this long after its deadline, and yields to other tasks this
/// often.
const TICK: Duration = Duration::from_millis(1);

/// State shared by all policies of a process: the engines with their instance pools, the compiler, the scheduler and
/// the epoch thread.
#[derive(Clone)]
pub struct Engines {
    /// For `postern:policy` modules, with component-model concurrency off: it makes instantiation slower.
    pub(crate) plain: Engine,
    /// For `wasi:http` components, which need component-model concurrency.
    pub(crate) wasi: Engine,
    pub(crate) compiler: Compiler,
    pub(crate) scheduler: Arc<Scheduler>,
    _ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines").finish_non_exhaustive()
    }
}

impl Engines {
    /// Creates engines for at most `instances` concurrent decisions, each with at most `memory` bytes.
    ///
    /// # Errors
    /// If wasmtime cannot run on this machine; most often there is too little address space for the pools.
    pub fn new(instances: usize, memory: usize) -> wasmtime::Result<Self> {
        let plain = Engine::new(&config(instances, memory, false))?;
        let wasi = Engine::new(&config(instances, memory, true))?;
        let ticker = Ticker::start([plain.clone(), wasi.clone()])?;
        Ok(Self {
            plain,
            wasi,
            compiler: Compiler::default(),
            scheduler: Scheduler::new(std::thread::available_parallelism().map_or(1, usize::from)),
            _ticker: Arc::new(ticker),
        })
    }
}

impl Engines {
    /// Replaces the compiler; the default compiles in this process.
    #[must_use]
    pub fn with_compiler(self, compiler: Compiler) -> Self {
        Self { compiler, ..self }
    }
}

fn config(instances: usize, memory: usize, concurrent: bool) -> Config {
    let count = u32::try_from(instances).unwrap_or(u32::MAX).clamp(1, 1000);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count);
    // Every concurrent instance gets its maximum number of slots: a module with many memories must not take a slot from
    // another request.
    pool.max_core_instances_per_component(2 * MAX_MEMORIES);
    pool.total_core_instances(count.saturating_mul(2 * MAX_MEMORIES));
    pool.max_memories_per_component(MAX_MEMORIES);
    pool.total_memories(count.saturating_mul(MAX_MEMORIES));
    pool.max_tables_per_component(2 * MAX_MEMORIES);
    pool.total_tables(count.saturating_mul(2 * MAX_MEMORIES));
    // One core module may use all memories of its component.
    pool.max_memories_per_module(MAX_MEMORIES);
    pool.max_tables_per_module(2 * MAX_MEMORIES);
    pool.table_elements(20_000);
    pool.total_stacks(count);
    pool.max_memory_size(memory);
    // A small policy touches few pages. Zeroing them is cheaper than returning them to the system and faulting them in
    // again for the next request.
    pool.linear_memory_keep_resident(1 << 20);
    pool.pagemap_scan(Enabled::Auto);
    pool.table_keep_resident(16 << 10);
    pool.async_stack_keep_resident(64 << 10);

    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    // A fresh instance is a copy-on-write mapping of the module's initial memory.
    config.memory_init_cow(true);
    configure_codegen(&mut config, concurrent);
    config
}

/// Sets the options that compiled code depends on.
pub(crate) fn configure_codegen(config: &mut Config, concurrent: bool) {
    config.epoch_interruption(true);
    // Policies need neither; disabling them reduces attack surface.
    config.wasm_memory64(false);
    config.shared_memory(false);
    config.concurrency_support(concurrent);
    config.wasm_component_model_async(concurrent);
    // Policies use little stack; deep recursion traps here before it reaches the host's own stack.
    config.max_wasm_stack(512 << 10);
}

/// A thread that advances the engines' epochs until the last clone of the engines is dropped.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engines: [Engine; 2]) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("postern-epoch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    for engine in &engines {
                        engine.increment_epoch();
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It exits within one tick. A panic in it carries no further information.
            let _ = thread.join();
        }
    }
}
