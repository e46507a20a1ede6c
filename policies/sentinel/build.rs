//! Sets the module's stack size.

fn main() {
    let target = std::env::var("CARGO_CFG_TARGET_ARCH");
    if target.is_ok_and(|target| target == "wasm32") {
        // The default of 1 MiB would move the data past the memory that the host keeps resident. JSON nests at most 128
        // levels, which need only part of this.
        println!("cargo::rustc-cdylib-link-arg=-zstack-size=262144");
    }
}
