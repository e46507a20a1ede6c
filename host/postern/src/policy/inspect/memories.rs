//! Counts the memories of a component.

use anyhow::{Context, Result};
use serde::Serialize;
use wasmparser::{Parser, Payload};

/// The default size of a page, in bytes.
const PAGE: u64 = 64 << 10;

/// The memories of all modules in a component.
#[derive(Debug, Default, Serialize)]
pub(super) struct Memories {
    pub(super) memories: usize,
    /// Their initial size.
    #[serde(rename = "initial_memory_bytes")]
    pub(super) initial_bytes: usize,
}

impl Memories {
    pub(super) fn of(wasm: &[u8]) -> Result<Self> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::MemorySection(section) = payload.context("not WebAssembly")? {
                for memory in section {
                    let memory = memory.context("not WebAssembly")?;
                    let page = memory
                        .page_size_log2
                        .map_or(PAGE, |log2| 1_u64.checked_shl(log2).unwrap_or(PAGE));
                    let bytes = usize::try_from(memory.initial.saturating_mul(page)).unwrap_or(usize::MAX);
                    found.memories += 1;
                    found.initial_bytes = found.initial_bytes.saturating_add(bytes);
                }
            }
        }
        Ok(found)
    }
}
