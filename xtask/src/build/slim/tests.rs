use walrus::{FunctionBuilder, Module};

use super::*;

/// A module that exports a memory and an empty function under each of the names.
fn module(names: &[&str]) -> Vec<u8> {
    let mut module = Module::default();
    for name in names {
        if *name == "memory" {
            let memory = module.memories.add_local(false, false, 1, None, None);
            module.exports.add(name, memory);
        } else {
            let mut function = FunctionBuilder::new(&mut module.types, &[], &[]);
            function.func_body().i32_const(1).drop();
            let function = function.finish(vec![], &mut module.funcs);
            module.exports.add(name, function);
        }
    }
    module.emit_wasm()
}

fn kept_names() -> Vec<&'static str> {
    KEPT.iter().map(|(name, _)| *name).collect()
}

fn exports(module: &[u8]) -> Vec<String> {
    let module = Module::from_buffer(module).unwrap();
    module.exports.iter().map(|export| export.name.clone()).collect()
}

#[test]
fn other_callbacks_go_and_their_code_with_them() {
    let kept = kept_names();
    let mut names = kept.clone();
    names.extend([
        "proxy_on_log",
        "proxy_on_done",
        "proxy_on_response_body",
        "__heap_base",
    ]);
    let slimmed = slim(&module(&names)).unwrap();
    assert_eq!(exports(&slimmed), kept);
    assert_eq!(
        Module::from_buffer(&slimmed).unwrap().funcs.iter().count(),
        kept.len() - 1
    );
    assert_eq!(slimmed, slim(&module(&names)).unwrap());
}

#[test]
fn either_allocator_suffices_and_every_other_export_is_needed() {
    let with_malloc: Vec<_> = kept_names()
        .into_iter()
        .map(|name| {
            if name == "proxy_on_memory_allocate" {
                "malloc"
            } else {
                name
            }
        })
        .collect();
    assert_eq!(exports(&slim(&module(&with_malloc)).unwrap()), with_malloc);

    for missing in kept_names() {
        let names: Vec<_> = kept_names().into_iter().filter(|name| *name != missing).collect();
        let error = slim(&module(&names)).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}
