//! From what the compiler made to a component.

use anyhow::{Context, Result, anyhow, bail};
use postern_policy::{Module, ModuleKind};
use wit_component::ComponentEncoder;

use super::project::CrateKind;

/// The component that a compiled crate is, or becomes.
pub(super) fn to_component(kind: CrateKind, wasm: &[u8]) -> Result<Vec<u8>> {
    match kind {
        CrateKind::Spin => Ok(wasm.to_vec()),
        CrateKind::Authorizer => encode(wasm)
            .map_err(|error| anyhow!("{error:#}"))
            .context("no component can be made of what the compiler made"),
    }
}

fn encode(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().module(wasm)?.validate(true).encode()
}

/// An authorizer that imports something else than the contract's capabilities would not be linked by any host.
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
        "imports {}, which no host links for a policy: it may import postern:policy alone. A dependency that uses \
         the standard library's clock, files, random numbers or the like brings them in",
        foreign.join(", ")
    )
}
