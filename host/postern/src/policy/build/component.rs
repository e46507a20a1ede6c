//! Converts the compiler's output into a component.

use anyhow::{Context, Result, anyhow, bail};
use postern_policy::{Module, ModuleKind};
use wit_component::ComponentEncoder;

use super::project::CrateKind;

/// Converts a compiled crate into a component, if it is not one already.
pub(super) fn to_component(kind: CrateKind, wasm: &[u8]) -> Result<Vec<u8>> {
    match kind {
        CrateKind::Spin => Ok(wasm.to_vec()),
        CrateKind::Authorizer => encode(wasm)
            .map_err(|error| anyhow!("{error:#}"))
            .context("the compiler's output cannot be converted into a component"),
    }
}

fn encode(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().module(wasm)?.validate(true).encode()
}

/// Rejects an authorizer with imports other than the capabilities of the contract: no host would link it.
pub(super) fn reject_foreign_imports(module: &Module) -> Result<()> {
    if module.kind() != ModuleKind::Authorizer {
        return Ok(());
    }
    let foreign: Vec<_> = module
        .imports()
        .iter()
        .filter(|name| !name.starts_with("postern:policy/"))
        .map(String::as_str)
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    bail!(
        "imports {}, which no host provides to a policy: it may import only postern:policy. Such imports come from a \
         dependency that uses the standard library's clock, files, random numbers or the like",
        foreign.join(", ")
    )
}
