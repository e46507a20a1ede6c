//! Policy modules: those that ship, as `cargo xtask build` made them, and small ones made of text on the spot.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

use crate::paths;

/// There is no such module.
#[derive(Debug, thiserror::Error)]
#[error(
    "no policy module at {path}; run `cargo xtask build`, or set POSTERN_POLICIES to a folder that holds it"
)]
pub struct NotBuilt {
    path: String,
}

/// Where `cargo xtask build` puts the modules that ship.
#[must_use]
pub fn built() -> PathBuf {
    paths::target().join("postern").join("policies")
}

/// A module that ships: `rbac`, `tenant` and so on. In `POSTERN_POLICIES`, else where `cargo xtask build` put it.
///
/// # Errors
///
/// When the file is not there.
pub fn shipped(name: &str) -> Result<PathBuf, NotBuilt> {
    let folder = match std::env::var_os("POSTERN_POLICIES").filter(|value| !value.is_empty()) {
        Some(set) => PathBuf::from(set),
        None => built(),
    };
    let path = folder.join(format!("{name}.wasm"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(NotBuilt {
            path: path.display().to_string(),
        })
    }
}

/// What went wrong with a module made of text.
#[derive(Debug, thiserror::Error)]
#[error("the module cannot be made: {0}")]
pub struct Unmade(String);

/// A component of the world `postern:policy/authorizer`: memory, an allocator, the given fields (imports first), and
/// an `authorize` of the given instructions. They leave a pointer to the answer; zeros there are an allowance.
///
/// # Errors
///
/// When the text is no module of that world.
pub fn authorizer(fields: &str, authorize: &str) -> Result<Vec<u8>, Unmade> {
    let text = format!(
        r#"(module
            {fields}
            (memory $memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (if (i32.gt_u (global.get $next) (i32.mul (memory.size $memory) (i32.const 65536)))
                    (then (if (i32.eq (memory.grow $memory (i32.const 32)) (i32.const -1)) (then unreachable))))
                (local.get $at))
            ;; Some bytes to point at.
            (data (memory $memory) (i32.const 2048) "{{}}")
            (func (export "authorize") (param $request i32) (result i32) {authorize}))"#
    );
    component(&text).map_err(Unmade)
}

/// The text of a component in which each of so many components instantiates the one before twice: two to the power of
/// the levels instances of the innermost, whose fields these are.
#[must_use]
pub fn doubling(levels: usize, innermost: &str) -> String {
    let doubled = |level: usize| {
        let below = level - 1;
        format!(
            "(component $c{level} (alias outer 1 $c{below} (component $b)) (instance (instantiate $b)) \
             (instance (instantiate $b)))"
        )
    };
    let levels_above: String = (1..=levels).map(doubled).collect();
    format!("(component (component $c0 {innermost}) {levels_above} (instance (instantiate $c{levels})))")
}

/// A `wasi:http` component that answers 200 and then writes its body for ever, a page at a time.
///
/// # Errors
///
/// When the text is no module of that world.
pub fn endless_response() -> Result<Vec<u8>, Unmade> {
    let text = r#"(module
        (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $stream (param i32 i32)))
        (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
            (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
        (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (memory (export "memory") 2)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
        (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
            (local $response i32)
            (local.set $response (call $response (call $fields)))
            (call $body (local.get $response) (i32.const 0))
            (call $stream (i32.load (i32.const 4)) (i32.const 16))
            (call $set (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
            (loop (call $write (i32.load (i32.const 20)) (i32.const 1024) (i32.const 4096) (i32.const 32)) (br 0))))"#;
    let made = || -> Result<_, String> {
        let mut resolve = Resolve::default();
        let package = resolve
            .push_str("http.wit", include_str!("modules/http.wit"))
            .map_err(|error| format!("{error:#}"))?;
        encode(text, &resolve, package, "handler")
    };
    made().map_err(Unmade)
}

fn component(text: &str) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let wit = paths::workspace().join(Path::new("policies/wit"));
    let (package, _) = resolve.push_dir(wit).map_err(|error| error.to_string())?;
    encode(text, &resolve, package, "authorizer")
}

fn encode(text: &str, resolve: &Resolve, package: PackageId, world: &str) -> Result<Vec<u8>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let world = resolve
        .select_world(&[package], Some(world))
        .map_err(|error| words(&error))?;
    let mut module = wat::parse_str(text).map_err(|error| words(&error))?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)
        .map_err(|error| words(&error))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// A module that refuses everything with 403 and this code: versions of a policy are told apart by it.
///
/// # Errors
///
/// As [`authorizer`].
pub fn denier(code: &str) -> Result<Vec<u8>, Unmade> {
    let (fields, authorize) = denial(code);
    authorizer(&fields, &authorize)
}

/// What refuses with 403 and this code: fields of a module, and instructions to end `authorize` with.
#[must_use]
pub fn denial(code: &str) -> (String, String) {
    let length = code.len();
    (
        format!(
            r#"(data (memory $memory) (i32.const 1024) "{code}") (data (memory $memory) (i32.const 1152) "no")"#
        ),
        // The decision begins at 4: deny; the status at 8, the code at 12, the message at 20, the headers at 28.
        format!(
            "(i32.store8 (i32.const 4) (i32.const 1)) (i32.store16 (i32.const 8) (i32.const 403))
             (i32.store (i32.const 12) (i32.const 1024)) (i32.store (i32.const 16) (i32.const {length}))
             (i32.store (i32.const 20) (i32.const 1152)) (i32.store (i32.const 24) (i32.const 2))
             (i32.const 0)"
        ),
    )
}
