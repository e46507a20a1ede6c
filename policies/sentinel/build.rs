//! How much stack the module has.

fn main() {
    let target = std::env::var("CARGO_CFG_TARGET_ARCH");
    if target.is_ok_and(|target| target == "wasm32") {
        // The default, 1 MiB, would push the rest out of the memory that a host keeps at hand. JSON nests 128 levels at
        // most, which take a part of this.
        println!("cargo::rustc-cdylib-link-arg=-zstack-size=262144");
    }
}
