//! Host side of the capabilities of `postern:policy`. A module can call those that its entry grants.

pub(crate) mod http;
pub(crate) mod keyvalue;
pub(crate) mod log;
pub(crate) mod signer;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::{clock, config};
use crate::entry::Entry;
use crate::limits::MemoryMeter;

/// Store data of one decision of a `postern:policy` module.
pub(crate) struct State {
    pub(crate) entry: Arc<Entry>,
    pub(crate) request_id: String,
    pub(crate) meter: MemoryMeter,
    pub(crate) log: log::Budget,
    pub(crate) signatures: signer::Budget,
}

impl crate::bindings::postern::policy::types::Host for State {}

impl config::Host for State {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.entry.config.to_string())
    }
}

impl clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(now_ms())
    }
}

/// Milliseconds since the Unix epoch; 0 if the clock is set before it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
