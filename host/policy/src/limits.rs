//! Resource limits of one decision.

use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::Failure;

/// The limits of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall time for one decision, queueing and host calls included. Default: 50 ms.
    pub deadline: Duration,
    /// Bytes of all memories and tables of an instance together. Default: 16 MiB.
    pub memory: usize,
    /// Concurrent decisions. Default: 64.
    pub concurrency: usize,
    /// Requests that may wait for admission; further ones fail at once. Default: 1024.
    pub queue: usize,
    /// Share of CPU time under contention, relative to other entries' weights. Default: 1.
    pub weight: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory: 16 << 20,
            concurrency: 64,
            queue: 1024,
            weight: 1,
        }
    }
}

/// Maximum log lines of one decision.
pub(crate) const MAX_LOG_LINES: usize = 100;
/// Maximum log bytes of one decision.
pub(crate) const MAX_LOG_BYTES: usize = 16 << 10;
/// Maximum bytes that a module may pass to the host in one call; returning its decision is one such call.
pub(crate) const MAX_HOSTCALL_BYTES: usize = 1 << 20;
/// Maximum memories of one component; the instance pool is sized for it.
pub(crate) const MAX_MEMORIES: u32 = 8;

/// Limits a store's run time and the size of its host calls. At each epoch the module yields to other tasks before the
/// deadline, and is stopped after it.
pub(crate) fn apply<T: 'static>(store: &mut Store<T>, deadline: Instant, limit: Duration) {
    store.set_hostcall_fuel(MAX_HOSTCALL_BYTES);
    store.epoch_deadline_callback(move |_| {
        if Instant::now() < deadline {
            Ok(UpdateDeadline::Yield(1))
        } else {
            Err(Failure::Deadline(limit).into())
        }
    });
    store.set_epoch_deadline(1);
}

/// Counts the memory of a store over all memories and tables. A component can have many, so a limit on each would not
/// bound the total.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    limit: usize,
    used: usize,
}

impl MemoryMeter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    fn grow(
        &mut self,
        from: usize,
        to: usize,
        maximum: Option<usize>,
        unit: usize,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| to > maximum) {
            // Growth beyond the declared maximum fails anyway.
            return Ok(false);
        }
        let bytes = to.saturating_sub(from).saturating_mul(unit);
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            // An error rather than a failed growth: on the latter the module would abort without a reason.
            return Err(Failure::Memory(self.limit).into());
        }
        self.used = used;
        Ok(true)
    }
}

impl postern_wasi_http::MemoryLimiter for MemoryMeter {
    fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, 1)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, size_of::<usize>())
    }
}
