//! What a module may use while it decides on one request.

use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::Failure;

/// The bounds of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall time for one decision, calls of the host included.
    pub deadline: Duration,
    /// Bytes of all memories and tables of an instance together.
    pub memory: usize,
    /// Decisions at the same time.
    pub concurrency: usize,
    /// Requests that may wait for their turn; those past it are refused.
    pub queue: usize,
    /// What the entry gets of the processors when others want them too, compared with others' weights.
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

/// Lines that a policy may log for one request.
pub(crate) const MAX_LOG_LINES: usize = 100;
/// Bytes that a policy may log for one request.
pub(crate) const MAX_LOG_BYTES: usize = 16 << 10;
/// Bytes that a policy may hand to the host in one call, its decision among them.
pub(crate) const MAX_HOSTCALL_BYTES: usize = 1 << 20;
/// Memories of one component: what the pool has room for.
pub(crate) const MAX_MEMORIES: u32 = 8;

/// Bounds a store in time, and in what its module hands over. The engine's epochs look at it: before its deadline it
/// gives others their turn on the thread, after it it ends.
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

/// Sums what all memories and tables of a store take: a component can have many, so that a limit for each is none.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    limit: usize,
    used: usize,
}

impl MemoryMeter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    fn grow(
        &mut self,
        from: usize,
        to: usize,
        maximum: Option<usize>,
        unit: usize,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| to > maximum) {
            // It will not grow, whatever is said here.
            return Ok(false);
        }
        let bytes = to.saturating_sub(from).saturating_mul(unit);
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            // An error rather than a failed growth: the module would only abort over it, without a reason.
            return Err(Failure::Memory(self.limit).into());
        }
        self.used = used;
        Ok(true)
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
