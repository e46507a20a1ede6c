//! Modules, and the environment that cargo needs to build some.

use postern_testbed::text_modules;

use super::WorkDir;

/// The target folder of crates, kept between test runs so that dependencies are built once.
pub(crate) const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/policies");

/// A folder whose commands find the toolchain.
pub(crate) fn with_toolchain() -> WorkDir {
    const INHERITED: [&str; 9] = [
        "PATH",
        "HOME",
        "CARGO",
        "CARGO_HOME",
        "CARGO_NET_OFFLINE",
        "RUSTC",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "SSL_CERT_FILE",
    ];
    INHERITED
        .into_iter()
        .fold(WorkDir::new(), |dir, name| match std::env::var(name) {
            // Leaks a few bytes per test.
            Ok(value) => dir.with(name, value.leak()),
            Err(_) => dir,
        })
}

/// A folder with a module for each kind of decision: `allow`, `deny` (no_one), `trap`, and `http`, which imports it.
pub(crate) fn with_modules() -> WorkDir {
    let dir = WorkDir::new();
    let module = |name: &str, wasm: Vec<u8>| std::fs::write(dir.path(name), wasm).expect("a file");
    let logs = r#"(import "postern:policy/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let says = "(call $log (i32.const 2) (i32.const 2048) (i32.const 2))";
    let http = r#"(import "postern:policy/http@0.1.0" "send"
        (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    module(
        "allow.wasm",
        text_modules::authorizer(logs, &format!("{says} (i32.const 0)")).expect("a module"),
    );
    module(
        "deny.wasm",
        text_modules::denying_module("no_one").expect("a module"),
    );
    module(
        "trap.wasm",
        text_modules::authorizer("", "unreachable").expect("a module"),
    );
    module(
        "http.wasm",
        text_modules::authorizer(http, "(i32.const 0)").expect("a module"),
    );
    dir
}

/// Generates a key, `<name>.pem`, and returns `NAME=KEY` as `verify --signer` takes it.
pub(crate) fn signer(dir: &WorkDir, name: &str) -> String {
    let document = dir
        .run(&["policy", "keygen", &format!("{name}.pem"), "--json"])
        .json();
    let key = document.get("public_key").and_then(|key| key.as_str());
    format!("{name}={}", key.expect("a public key"))
}
