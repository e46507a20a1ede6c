//! Limits on a component's structure, checked before compilation.
//!
//! A component of a few kilobytes can require more instances than fit into memory: each level of nesting that
//! instantiates the level below twice doubles them, and the compiler emits code for each. This module counts them, and
//! whatever else drives the cost of compilation, in one pass over the bytes. The compiler then validates the component
//! in its own process: see [`crate::compiler`].

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, Encoding, Instance, InstanceTypeDeclaration, Parser, Payload,
};

use crate::limits::MAX_MEMORIES;

/// Maximum size of a component, in bytes.
pub(crate) const MAX_SIZE: usize = 64 << 20;
/// Maximum nesting depth of components and modules.
const MAX_DEPTH: usize = 16;
/// Maximum number of components and core modules, at any depth.
const MAX_COMPONENTS: u64 = 512;
/// Maximum core instances per instance of the outermost component. Core instances of an inner component count once per
/// instantiation. The instance pool is sized for this number.
const MAX_CORE_INSTANCES: u64 = 2 * MAX_MEMORIES as u64;
/// Maximum component instances, counted in the same way.
const MAX_INSTANCES: u64 = 1024;
/// Maximum types, imports, exports, aliases, instances and canonical functions in the binaries of all components.
const MAX_ITEMS: u64 = 200_000;
/// Maximum functions of all core modules.
const MAX_FUNCTIONS: u64 = 200_000;
/// Maximum size of a function body, in bytes: compile time grows faster than linearly with it.
const MAX_FUNCTION_BODY: usize = 2 << 20;

/// A component was rejected before compilation.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BoundsError {
    /// The bytes are not a valid component.
    #[error("{0}")]
    Invalid(String),
    /// A count exceeds its limit.
    #[error("{found} {what}; the limit is {limit}")]
    TooMany {
        /// What is counted, in the plural.
        what: &'static str,
        /// The count at which reading stopped.
        found: u64,
        /// The maximum.
        limit: u64,
    },
    /// Components are passed as values, so their instances cannot be counted.
    #[error(
        "imports, exports or passes components as values, which is not supported: compose them into one component"
    )]
    ComponentValue,
}

impl From<wasmparser::BinaryReaderError> for BoundsError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Number of instances created by instantiating a component once.
#[derive(Debug, Clone, Copy, Default)]
struct InstanceCount {
    core: u64,
    instances: u64,
}

/// A component being read.
#[derive(Debug, Default)]
struct ComponentScope {
    /// Its component index space.
    components: Vec<InstanceCount>,
    count: InstanceCount,
}

/// Reading state. `None` on the stack is a core module, which instantiates nothing.
#[derive(Debug, Default)]
struct BoundsChecker {
    scopes: Vec<Option<ComponentScope>>,
    components_read: u64,
    items: u64,
    functions: u64,
}

/// Checks a component against the limits.
///
/// # Errors
/// The first limit exceeded, or the reason the bytes cannot be read.
pub(crate) fn check(wasm: &[u8]) -> Result<(), BoundsError> {
    check_limit("bytes", wasm.len() as u64, MAX_SIZE as u64)?;
    let mut checker = BoundsChecker::default();
    for payload in Parser::new(0).parse_all(wasm) {
        checker.read_payload(payload?)?;
    }
    Ok(())
}

fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), BoundsError> {
    if found > limit {
        return Err(BoundsError::TooMany { what, found, limit });
    }
    Ok(())
}

impl BoundsChecker {
    fn read_payload(&mut self, payload: Payload<'_>) -> Result<(), BoundsError> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.components_read += 1;
                check_limit("components and modules", self.components_read, MAX_COMPONENTS)?;
                self.scopes.push(match encoding {
                    Encoding::Component => Some(ComponentScope::default()),
                    Encoding::Module => None,
                });
                check_limit("levels of nesting", self.scopes.len() as u64, MAX_DEPTH as u64)?;
            }
            Payload::End(_) => {
                let ended = self.scopes.pop().flatten();
                if let (Some(inner), Some(Some(outer))) = (ended, self.scopes.last_mut()) {
                    outer.components.push(inner.count);
                }
            }
            Payload::FunctionSection(section) => {
                self.functions += u64::from(section.count());
                check_limit("functions", self.functions, MAX_FUNCTIONS)?;
            }
            Payload::CodeSectionEntry(body) => {
                check_limit(
                    "bytes in a function",
                    body.range().len() as u64,
                    MAX_FUNCTION_BODY as u64,
                )?;
            }
            Payload::InstanceSection(section) => {
                self.count_items(section.count())?;
                for instance in section {
                    if matches!(instance?, Instance::Instantiate { .. }) {
                        self.instantiate(InstanceCount {
                            core: 1,
                            instances: 0,
                        })?;
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                self.count_items(section.count())?;
                for instance in section {
                    self.instance(&instance?)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                self.count_items(section.count())?;
                for alias in section {
                    self.alias(&alias?)?;
                }
            }
            Payload::ComponentImportSection(section) => {
                self.count_items(section.count())?;
                for import in section {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        return Err(BoundsError::ComponentValue);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                self.count_items(section.count())?;
                for export in section {
                    if export?.kind == ComponentExternalKind::Component {
                        return Err(BoundsError::ComponentValue);
                    }
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section {
                    self.count_type(&ty?)?;
                }
            }
            Payload::CoreTypeSection(section) => self.count_items(section.count())?,
            Payload::ComponentCanonicalSection(section) => self.count_items(section.count())?,
            Payload::TypeSection(section) => self.count_items(section.count())?,
            Payload::ImportSection(section) => self.count_items(section.count())?,
            Payload::ExportSection(section) => self.count_items(section.count())?,
            _ => {}
        }
        Ok(())
    }

    fn count_items(&mut self, count: u32) -> Result<(), BoundsError> {
        self.items += u64::from(count);
        check_limit("types, imports, exports and instances", self.items, MAX_ITEMS)
    }

    fn scope(&mut self) -> Result<&mut ComponentScope, BoundsError> {
        let scope = self.scopes.last_mut().and_then(Option::as_mut);
        scope.ok_or_else(|| BoundsError::Invalid("a component section in a core module".into()))
    }

    fn instantiate(&mut self, added: InstanceCount) -> Result<(), BoundsError> {
        let total = &mut self.scope()?.count;
        total.core = total.core.saturating_add(added.core);
        total.instances = total.instances.saturating_add(added.instances);
        check_limit("instances of core modules", total.core, MAX_CORE_INSTANCES)?;
        check_limit("instances of components", total.instances, MAX_INSTANCES)
    }

    fn instance(&mut self, instance: &ComponentInstance<'_>) -> Result<(), BoundsError> {
        match instance {
            ComponentInstance::Instantiate {
                component_index,
                args,
            } => {
                if args
                    .iter()
                    .any(|arg| arg.kind == ComponentExternalKind::Component)
                {
                    return Err(BoundsError::ComponentValue);
                }
                let inner = component(self.scope()?, *component_index)?;
                self.instantiate(InstanceCount {
                    core: inner.core,
                    instances: inner.instances.saturating_add(1),
                })
            }
            ComponentInstance::FromExports(exports) => {
                self.count_items(u32::try_from(exports.len()).unwrap_or(u32::MAX))?;
                if exports
                    .iter()
                    .any(|export| export.kind == ComponentExternalKind::Component)
                {
                    return Err(BoundsError::ComponentValue);
                }
                Ok(())
            }
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), BoundsError> {
        match alias {
            ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Component,
                count,
                index,
            } => {
                let outer = usize::try_from(*count)
                    .ok()
                    .and_then(|count| self.scopes.len().checked_sub(count.saturating_add(1)))
                    .and_then(|at| self.scopes.get(at)?.as_ref())
                    .ok_or_else(|| {
                        BoundsError::Invalid("an alias to a component index out of bounds".into())
                    })?;
                let aliased = component(outer, *index)?;
                self.scope()?.components.push(aliased);
                Ok(())
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                ..
            } => Err(BoundsError::ComponentValue),
            _ => Ok(()),
        }
    }

    /// Recursion is bounded: the parser limits the nesting of types.
    fn count_type(&mut self, ty: &ComponentType<'_>) -> Result<(), BoundsError> {
        self.count_items(1)?;
        match ty {
            ComponentType::Component(declarations) => {
                self.count_items(u32::try_from(declarations.len()).unwrap_or(u32::MAX))?;
                for declaration in declarations {
                    if let ComponentTypeDeclaration::Type(ty) = declaration {
                        self.count_type(ty)?;
                    }
                }
            }
            ComponentType::Instance(declarations) => {
                self.count_items(u32::try_from(declarations.len()).unwrap_or(u32::MAX))?;
                for declaration in declarations {
                    if let InstanceTypeDeclaration::Type(ty) = declaration {
                        self.count_type(ty)?;
                    }
                }
            }
            ComponentType::Defined(_) | ComponentType::Func(_) | ComponentType::Resource { .. } => {}
        }
        Ok(())
    }
}

fn component(scope: &ComponentScope, index: u32) -> Result<InstanceCount, BoundsError> {
    usize::try_from(index)
        .ok()
        .and_then(|index| scope.components.get(index).copied())
        .ok_or_else(|| BoundsError::Invalid("instantiates a component index out of bounds".into()))
}

#[cfg(test)]
mod tests {
    use postern_testbed::text_modules;

    use super::*;

    fn check_text(text: &str) -> Result<(), BoundsError> {
        check(&wat::parse_str(text).unwrap())
    }

    const MODULE: &str = "(core module $m)";

    /// A component with 2^levels instances of a core module.
    fn doubling(levels: usize) -> String {
        text_modules::nested_instances(levels, &format!("{MODULE} (core instance (instantiate $m))"))
    }

    #[test]
    fn instances_count_once_per_instantiation() {
        check_text(&doubling(4)).unwrap();
        for levels in [5, 30, 60] {
            let error = check_text(&doubling(levels)).unwrap_err();
            assert!(
                matches!(
                    error,
                    BoundsError::TooMany {
                        what: "instances of core modules",
                        ..
                    }
                ),
                "{error}"
            );
        }
        // Without core instances.
        let empty = text_modules::nested_instances(30, MODULE);
        let error = check_text(&empty).unwrap_err();
        assert!(
            matches!(
                error,
                BoundsError::TooMany {
                    what: "instances of components",
                    ..
                }
            ),
            "{error}"
        );
        let deep = "(component ".repeat(20) + &")".repeat(20);
        let error = check_text(&deep).unwrap_err();
        assert!(
            matches!(
                error,
                BoundsError::TooMany {
                    what: "levels of nesting",
                    ..
                }
            ),
            "{error}"
        );
        let many = format!("(component {})", "(component)".repeat(600));
        let error = check_text(&many).unwrap_err();
        assert!(
            matches!(
                error,
                BoundsError::TooMany {
                    what: "components and modules",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn components_as_values_are_rejected() {
        for text in [
            "(component (import \"c\" (component)))",
            "(component (component $c) (export \"c\" (component $c)))",
            "(component (component $c) (component $d (import \"c\" (component))) \
             (instance (instantiate $d (with \"c\" (component $c)))))",
        ] {
            assert_eq!(check_text(text), Err(BoundsError::ComponentValue), "{text}");
        }
    }

    #[test]
    fn invalid_bytes_are_rejected() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\x04\x08"] {
            assert!(matches!(check(bytes), Err(BoundsError::Invalid(_))), "{bytes:?}");
        }
    }
}
