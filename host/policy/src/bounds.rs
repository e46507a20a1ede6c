//! What a component may be made of, looked at before the compiler sees it.
//!
//! A component of a few kilobytes can ask for more instances than any machine has room for: each level of nesting that
//! instantiates the one below twice doubles them, and the compiler writes out each of them. So they are counted first,
//! in one pass over the bytes, with what else the compiler's work grows with. What passes is validated by the compiler
//! itself, in a process of its own: see [`crate::compiler`].

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, Encoding, Instance, InstanceTypeDeclaration, Parser, Payload,
};

use crate::limits::MAX_MEMORIES;

/// The largest component, in bytes.
pub(crate) const MAX_SIZE: usize = 64 << 20;
/// How deep components may stand in each other.
const MAX_DEPTH: usize = 16;
/// Components and core modules, wherever they stand.
const MAX_COMPONENTS: u64 = 512;
/// Core instances of an instance of the whole, those of inner components counted as often as these are instantiated:
/// what the pool has room for.
const MAX_CORE_INSTANCES: u64 = 2 * MAX_MEMORIES as u64;
/// Component instances, counted likewise.
const MAX_INSTANCES: u64 = 1024;
/// Types, imports, exports, aliases, instances and canonical functions of all components, as they are written.
const MAX_ITEMS: u64 = 200_000;
/// Functions of all core modules.
const MAX_FUNCTIONS: u64 = 200_000;
/// The largest body of a function, in bytes: the compiler's work grows faster than it.
const MAX_FUNCTION_BODY: usize = 2 << 20;

/// Why bytes are not even shown to the compiler.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BoundsError {
    /// They are no component.
    #[error("{0}")]
    Invalid(String),
    /// More of something than a policy may have.
    #[error("{found} {what}; a policy may have {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are, or more.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// Components that are handed about as values: what they come to cannot be counted.
    #[error("imports, exports or hands over components, which policies cannot: link them into one")]
    ComponentValue,
}

impl From<wasmparser::BinaryReaderError> for BoundsError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// What one instance of a component comes to.
#[derive(Debug, Clone, Copy, Default)]
struct InstanceCount {
    core: u64,
    instances: u64,
}

/// A component that is being read.
#[derive(Debug, Default)]
struct ComponentScope {
    /// Its component index space.
    components: Vec<InstanceCount>,
    cost: InstanceCount,
}

/// What is being read: components, and core modules, which have nothing to count instances of.
#[derive(Debug, Default)]
struct BoundsChecker {
    scopes: Vec<Option<ComponentScope>>,
    components_read: u64,
    items: u64,
    functions: u64,
}

/// Checks that a component is within bounds.
///
/// # Errors
/// The first that it exceeds, or why it cannot be read.
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
                    outer.components.push(inner.cost);
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
                self.items(section.count())?;
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
                self.items(section.count())?;
                for instance in section {
                    self.instance(&instance?)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                self.items(section.count())?;
                for alias in section {
                    self.alias(&alias?)?;
                }
            }
            Payload::ComponentImportSection(section) => {
                self.items(section.count())?;
                for import in section {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        return Err(BoundsError::ComponentValue);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                self.items(section.count())?;
                for export in section {
                    if export?.kind == ComponentExternalKind::Component {
                        return Err(BoundsError::ComponentValue);
                    }
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section {
                    self.ty(&ty?)?;
                }
            }
            Payload::CoreTypeSection(section) => self.items(section.count())?,
            Payload::ComponentCanonicalSection(section) => self.items(section.count())?,
            Payload::TypeSection(section) => self.items(section.count())?,
            Payload::ImportSection(section) => self.items(section.count())?,
            Payload::ExportSection(section) => self.items(section.count())?,
            _ => {}
        }
        Ok(())
    }

    fn items(&mut self, count: u32) -> Result<(), BoundsError> {
        self.items += u64::from(count);
        check_limit("types, imports, exports and instances", self.items, MAX_ITEMS)
    }

    fn scope(&mut self) -> Result<&mut ComponentScope, BoundsError> {
        let scope = self.scopes.last_mut().and_then(Option::as_mut);
        scope.ok_or_else(|| BoundsError::Invalid("a component's section in a core module".into()))
    }

    fn instantiate(&mut self, of: InstanceCount) -> Result<(), BoundsError> {
        let cost = &mut self.scope()?.cost;
        cost.core = cost.core.saturating_add(of.core);
        cost.instances = cost.instances.saturating_add(of.instances);
        check_limit("instances of core modules", cost.core, MAX_CORE_INSTANCES)?;
        check_limit("instances of components", cost.instances, MAX_INSTANCES)
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
                let of = component(self.scope()?, *component_index)?;
                self.instantiate(InstanceCount {
                    core: of.core,
                    instances: of.instances.saturating_add(1),
                })
            }
            ComponentInstance::FromExports(exports) => {
                self.items(u32::try_from(exports.len()).unwrap_or(u32::MAX))?;
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
                    .ok_or_else(|| BoundsError::Invalid("an alias of what is not there".into()))?;
                let of = component(outer, *index)?;
                self.scope()?.components.push(of);
                Ok(())
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                ..
            } => Err(BoundsError::ComponentValue),
            _ => Ok(()),
        }
    }

    /// The reader bounds how deep types may be.
    fn ty(&mut self, ty: &ComponentType<'_>) -> Result<(), BoundsError> {
        self.items(1)?;
        match ty {
            ComponentType::Component(declarations) => {
                self.items(u32::try_from(declarations.len()).unwrap_or(u32::MAX))?;
                for declaration in declarations {
                    if let ComponentTypeDeclaration::Type(ty) = declaration {
                        self.ty(ty)?;
                    }
                }
            }
            ComponentType::Instance(declarations) => {
                self.items(u32::try_from(declarations.len()).unwrap_or(u32::MAX))?;
                for declaration in declarations {
                    if let InstanceTypeDeclaration::Type(ty) = declaration {
                        self.ty(ty)?;
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
        .ok_or_else(|| BoundsError::Invalid("instantiates a component that is not there".into()))
}

#[cfg(test)]
mod tests {
    use postern_testbed::modules;

    use super::*;

    fn of(text: &str) -> Result<(), BoundsError> {
        check(&wat::parse_str(text).unwrap())
    }

    const MODULE: &str = "(core module $m)";

    /// Two to the power of the levels instances of a core module.
    fn doubling(levels: usize) -> String {
        modules::nested_instances(levels, &format!("{MODULE} (core instance (instantiate $m))"))
    }

    #[test]
    fn instances_count_as_often_as_they_are_made() {
        of(&doubling(4)).unwrap();
        for levels in [5, 30, 60] {
            let error = of(&doubling(levels)).unwrap_err();
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
        // Without a core module in them.
        let empty = modules::nested_instances(30, MODULE);
        let error = of(&empty).unwrap_err();
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
        let error = of(&deep).unwrap_err();
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
        let error = of(&many).unwrap_err();
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
    fn components_as_values_are_refused() {
        for text in [
            "(component (import \"c\" (component)))",
            "(component (component $c) (export \"c\" (component $c)))",
            "(component (component $c) (component $d (import \"c\" (component))) \
             (instance (instantiate $d (with \"c\" (component $c)))))",
        ] {
            assert_eq!(of(text), Err(BoundsError::ComponentValue), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\x04\x08"] {
            assert!(matches!(check(bytes), Err(BoundsError::Invalid(_))), "{bytes:?}");
        }
    }
}
