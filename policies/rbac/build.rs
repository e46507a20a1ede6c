//! Sets the module's stack size and initial memory.

fn main() {
    let target = std::env::var("CARGO_CFG_TARGET_ARCH");
    if target.is_ok_and(|target| target == "wasm32") {
        // The default stack of 1 MiB would move the data past the memory that the host keeps resident. The initial memory
        // has room for a request and its configuration, so that memory does not grow.
        println!("cargo::rustc-cdylib-link-arg=-zstack-size=65536");
        println!("cargo::rustc-cdylib-link-arg=--initial-memory=131072");
    }
}
