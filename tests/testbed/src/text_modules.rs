//! Small policy modules, assembled from WebAssembly text.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

use crate::paths;

/// A module cannot be assembled from its text.
#[derive(Debug, thiserror::Error)]
#[error("cannot assemble the module: {0}")]
pub struct ModuleError(String);

/// A component of the world `postern:policy/authorizer`: a memory, an allocator, the given fields (imports first) and a
/// function `authorize` of the given instructions. These return a pointer to the decision; zeroed memory is an allow.
///
/// # Errors
///
/// When the text is not a module of that world.
pub fn authorizer(fields: &str, authorize: &str) -> Result<Vec<u8>, ModuleError> {
    let text = format!(
        r#"(module
            {fields}
            (memory $memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $pointer i32)
                (local.set $pointer (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $pointer) (local.get 3)))
                (if (i32.gt_u (global.get $next) (i32.mul (memory.size $memory) (i32.const 65536)))
                    (then (if (i32.eq (memory.grow $memory (i32.const 32)) (i32.const -1)) (then unreachable))))
                (local.get $pointer))
            ;; An empty JSON object, for the modules to point at.
            (data (memory $memory) (i32.const 2048) "{{}}")
            (func (export "authorize") (param $request i32) (result i32) {authorize}))"#
    );
    component(&text).map_err(ModuleError)
}

/// The text of a component with `levels` nested levels, each of which instantiates the level below twice, so that the
/// innermost component, which has the fields `innermost`, is instantiated 2^`levels` times.
#[must_use]
pub fn nested_instances(levels: usize, innermost: &str) -> String {
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

/// A `wasi:http` component that responds with 200 and an endless body, written in pieces of 4 KiB.
///
/// # Errors
///
/// When the text is not a module of that world.
pub fn endless_response() -> Result<Vec<u8>, ModuleError> {
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
    let encoded = || -> Result<_, String> {
        let mut resolve = Resolve::default();
        let package = resolve
            .push_str("http.wit", include_str!("text_modules/http.wit"))
            .map_err(|error| format!("{error:#}"))?;
        encode(text, &resolve, package, "handler")
    };
    encoded().map_err(ModuleError)
}

fn component(text: &str) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let wit = paths::workspace().join(Path::new("policies/wit"));
    let (package, _) = resolve.push_dir(wit).map_err(|error| error.to_string())?;
    encode(text, &resolve, package, "authorizer")
}

fn encode(text: &str, resolve: &Resolve, package: PackageId, world: &str) -> Result<Vec<u8>, String> {
    let text_of = |error: &dyn std::fmt::Display| error.to_string();
    let world = resolve
        .select_world(&[package], Some(world))
        .map_err(|error| text_of(&error))?;
    let mut module = wat::parse_str(text).map_err(|error| text_of(&error))?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)
        .map_err(|error| text_of(&error))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// A module that denies every request with 403 and this code, which tells versions of a policy apart.
///
/// # Errors
///
/// As [`authorizer`].
pub fn denying_module(code: &str) -> Result<Vec<u8>, ModuleError> {
    let (fields, authorize) = denial(code);
    authorizer(&fields, &authorize)
}

/// A denial with 403 and this code, for [`authorizer`]: fields of the module, and the last instructions of
/// `authorize`.
#[must_use]
pub fn denial(code: &str) -> (String, String) {
    let length = code.len();
    (
        format!(
            r#"(data (memory $memory) (i32.const 1024) "{code}") (data (memory $memory) (i32.const 1152) "no")"#
        ),
        // Offsets: 4 the decision (1 is deny), 8 the status, 12 the code, 20 the message, 28 the headers.
        format!(
            "(i32.store8 (i32.const 4) (i32.const 1)) (i32.store16 (i32.const 8) (i32.const 403))
             (i32.store (i32.const 12) (i32.const 1024)) (i32.store (i32.const 16) (i32.const {length}))
             (i32.store (i32.const 20) (i32.const 1152)) (i32.store (i32.const 24) (i32.const 2))
             (i32.const 0)"
        ),
    )
}
