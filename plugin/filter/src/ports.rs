//! The gate's ports over the proxy's host calls.

use std::time::{Duration, UNIX_EPOCH};

use postern_gate::ports::{Clock, Conflict, SharedState, Version};
use proxy_wasm::hostcalls;

use crate::abi;

/// The proxy's clocks.
pub(crate) struct ProxyClock;

impl Clock for ProxyClock {
    fn wall(&self) -> Duration {
        // Without a clock, every credential that can expire has expired.
        let now = hostcalls::get_current_time().ok();
        now.and_then(|now| now.duration_since(UNIX_EPOCH).ok())
            .unwrap_or(Duration::MAX)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(abi::monotonic_nanos())
    }
}

/// The proxy's shared data: one map for all VMs with the same `vm_id`.
pub(crate) struct SharedData;

impl SharedState for SharedData {
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        match hostcalls::get_shared_data(key) {
            // A value without version cannot be replaced safely: it counts as absent.
            Ok((Some(value), Some(version))) => Some((value, Version::new(version)?)),
            _ => None,
        }
    }

    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict> {
        hostcalls::set_shared_data(key, Some(value), expected.map(Version::get)).map_err(|_| Conflict)
    }

    fn create(&self, key: &str, value: &[u8]) -> Result<(), Conflict> {
        hostcalls::set_shared_data(key, Some(value), Some(NO_VERSION)).map_err(|_| Conflict)
    }
}

/// The proxy compares versions only where there is a value, so that a write with a version that no value has creates and
/// never overwrites. Versions are counted up from one, for all values together.
const NO_VERSION: u32 = u32::MAX;
