//! A policy module: a compiled component with its digest, imports and exports.

use std::collections::BTreeSet;

use wasmtime::component::Component;

use crate::grants::Capability;
use crate::limits::MAX_MEMORIES;
use crate::{Cache, Digest, Engines};

/// The interface through which a module is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// It exports `authorize`, of the world `postern:policy/authorizer`.
    Authorizer,
    /// It exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`.
    Http,
}

/// A compiled module.
#[derive(Clone)]
pub struct Module {
    digest: Digest,
    size: usize,
    kind: ModuleKind,
    imports: Vec<String>,
    exports: Vec<String>,
    pub(crate) component: Component,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Bytes cannot be used as a policy module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Not WebAssembly.
    #[error("not a WebAssembly component: the magic bytes `\\0asm` are missing")]
    NotWasm,
    /// The component is invalid, or compiling it exceeds the limits.
    #[error("{0}")]
    Compile(String),
    /// A core module, not a component.
    #[error("a core WebAssembly module, not a component: build it with `postern policy build`")]
    Core,
    /// Compiled native code.
    #[error("compiled code, which the host does not accept: provide the WebAssembly component itself")]
    Precompiled,
    /// It exports no policy interface.
    #[error(
        "exports neither `authorize` (world postern:policy/authorizer) nor wasi:http/incoming-handler@0.2 or handler@0.3; it exports: {0}"
    )]
    NoPolicy(String),
    /// It has more memories than the limit.
    #[error("has {found} memories; the limit is {MAX_MEMORIES}")]
    Memories {
        /// Number of memories.
        found: u32,
    },
}

impl Module {
    /// Compiles a component. Blocking and slow: do not call it on a thread that serves requests.
    ///
    /// # Errors
    /// If the bytes are not a component, or the component is not a policy.
    pub fn compile(engines: &Engines, cache: Option<&Cache>, wasm: &[u8]) -> Result<Self, ModuleError> {
        match (wasm.get(..4), wasm.get(4..8)) {
            (Some(b"\0asm"), Some([_, _, 0, 0])) => return Err(ModuleError::Core),
            (Some(b"\x7fELF"), _) => return Err(ModuleError::Precompiled),
            (Some(b"\0asm"), _) => {}
            _ => return Err(ModuleError::NotWasm),
        }
        let digest = Digest::of(wasm);
        let component_for = |engine: &wasmtime::Engine| {
            let concurrent = wasmtime::Engine::same(engine, &engines.wasi);
            let compile = || engines.compiler.compile(engine, concurrent, wasm);
            let code = match cache {
                Some(cache) => cache.get_or_compile(engine, digest, compile),
                None => compile(),
            }
            .map_err(|error| ModuleError::Compile(error.to_string()))?;
            #[expect(
                unsafe_code,
                reason = "compiled by our own compiler, or read unchanged from a directory that only this user can write to"
            )]
            // SAFETY: the bytes are the output of `Engine::precompile_component`, see the reason.
            let component = unsafe { Component::deserialize(engine, &code) };
            component.map_err(|error| ModuleError::Compile(format!("{error:#}")))
        };
        // The exports determine the engine, but are known only after compilation. A `wasi:http` component contains the
        // interface name as plain text. A wrong guess only costs a second compilation.
        let likely_engine = if contains(wasm, b"wasi:http/") {
            &engines.wasi
        } else {
            &engines.plain
        };
        let component = component_for(likely_engine)?;
        let (imports, exports) = names(&component);
        let kind = detect_kind(&exports).ok_or_else(|| ModuleError::NoPolicy(exports.join(", ")))?;
        let engine = match kind {
            ModuleKind::Authorizer => &engines.plain,
            ModuleKind::Http => &engines.wasi,
        };
        let component = if wasmtime::Engine::same(engine, likely_engine) {
            component
        } else {
            component_for(engine)?
        };
        if let Some(resources) = component.resources_required()
            && resources.num_memories > MAX_MEMORIES
        {
            return Err(ModuleError::Memories {
                found: resources.num_memories,
            });
        }
        Ok(Self {
            digest,
            size: wasm.len(),
            kind,
            imports,
            exports,
            component,
        })
    }

    /// The SHA-256 of the component.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the component, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The interface through which it is called.
    #[must_use]
    pub fn kind(&self) -> ModuleKind {
        self.kind
    }

    /// The names of its imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The names of its exports.
    #[must_use]
    pub fn exports(&self) -> &[String] {
        &self.exports
    }

    /// The capabilities that it imports and therefore needs granted.
    #[must_use]
    pub fn required_capabilities(&self) -> BTreeSet<Capability> {
        self.imports
            .iter()
            .filter_map(|import| {
                let name = import.strip_prefix("postern:policy/")?;
                Capability::from_name(name.split_once('@').map_or(name, |(name, _)| name))
            })
            .chain(
                self.imports
                    .iter()
                    .any(|import| {
                        import.starts_with("wasi:http/outgoing-handler@")
                            || import.starts_with("wasi:http/client@")
                    })
                    .then_some(Capability::Http),
            )
            .collect()
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn names(component: &Component) -> (Vec<String>, Vec<String>) {
    let engine = component.engine();
    let ty = component.component_type();
    let imports = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    (imports, exports)
}

fn detect_kind(exports: &[String]) -> Option<ModuleKind> {
    let exported = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    if exports.iter().any(|name| name == "authorize") {
        Some(ModuleKind::Authorizer)
    } else if exported("wasi:http/incoming-handler@0.2.") || exported("wasi:http/handler@0.3.") {
        Some(ModuleKind::Http)
    } else {
        None
    }
}
