//! How much memory the module begins with.

fn main() {
    let target = std::env::var("CARGO_CFG_TARGET_ARCH");
    if target.is_ok_and(|target| target == "wasm32") {
        // A stack of 1 MiB, the default, would push the rest out of the memory that a host keeps at hand; claims nest
        // 128 levels at most, which take a part of this. With room for a request and its configuration from the start,
        // memory does not grow.
        println!("cargo::rustc-cdylib-link-arg=-zstack-size=262144");
        println!("cargo::rustc-cdylib-link-arg=--initial-memory=327680");
    }
}
