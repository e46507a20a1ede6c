//! Bindings generated from `policies/wit`. The crate root re-exports everything that authors need.
#![allow(
    unsafe_code,
    reason = "generated: the canonical ABI passes pointers between the module and its host"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "authorizer",
    pub_export_macro: true,
    default_bindings_module: "postern_sdk::bindings",
    additional_derives: [PartialEq],
});
