//! Modules made of text, and a host to put them into.
#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_policy::{
    Capability, EntrySettings, Engines, Grants, Header, Identity, Limits, Policies, Request, Settings, Source, Store,
    Surroundings,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Makes a component of the world `postern:policy/authorizer` of a core module in text form.
///
/// `authorize` takes a pointer to its arguments and returns one to its result; see [`reply`].
pub fn authorizer(wat: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/wit");
    let (package, _) = resolve.push_dir(wit).unwrap();
    let world = resolve.select_world(&[package], Some("authorizer")).unwrap();
    let mut module = wat::parse_str(wat).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

/// A module whose `authorize` is the given instructions; they leave a pointer to the result.
pub fn module(fields: &str, authorize: &str) -> Vec<u8> {
    authorizer(&format!(
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
            (data (memory $memory) (i32.const 2048) "{{}}")
            (func (export "authorize") (param $request i32) (result i32) {authorize}))"#
    ))
}

/// Instructions that answer `deny(status, code, "no", [])`.
pub fn deny(status: u16, code: &str) -> (String, String) {
    let length = code.len();
    (
        format!(r#"(data (i32.const 1024) "{code}") (data (i32.const 1152) "no")"#),
        // result at 0: ok; decision at 4: deny; status at 8; code at 12; message at 20; headers at 28.
        format!(
            "(i32.store8 (i32.const 4) (i32.const 1)) (i32.store16 (i32.const 8) (i32.const {status}))
             (i32.store (i32.const 12) (i32.const 1024)) (i32.store (i32.const 16) (i32.const {length}))
             (i32.store (i32.const 20) (i32.const 1152)) (i32.store (i32.const 24) (i32.const 2))
             (i32.const 0)"
        ),
    )
}

/// A module that denies everything with this code: versions of it are told apart by it.
pub fn denier(code: &str) -> Vec<u8> {
    let (fields, authorize) = deny(403, code);
    module(&fields, &authorize)
}

/// A request of 15 headers.
pub fn request() -> Request {
    Request {
        id: "6f1f2d6e-0c8b-4c44-8f5d-7a3b9e1c2d3e".into(),
        rule: "allocate".into(),
        method: "POST".into(),
        scheme: "https".into(),
        authority: "api.example.com".into(),
        path: "/kernel/allocate".into(),
        query: None,
        headers: (0..15)
            .map(|i| Header {
                name: format!("x-header-{i}"),
                value: format!("a value of the usual length, {i}").into_bytes(),
            })
            .collect(),
        body: None,
        source_address: Some("192.0.2.7".into()),
        identity: Some(Identity {
            subject: "ann".into(),
            issuer: "issuers/sigil".into(),
            method: "jwt".into(),
            roles: vec!["Operator".into()],
            tenant: None,
            claims: r#"{"sub":"ann","roles":["Operator"]}"#.into(),
        }),
        time: 1_772_323_200_000,
    }
}

/// An entry of a file, granted everything that needs no network.
pub fn entry(file: impl Into<PathBuf>) -> EntrySettings {
    EntrySettings {
        source: Source::File {
            module: file.into(),
            digest: None,
            cases: None,
        },
        grants: Grants {
            capabilities: [Capability::Config, Capability::Log, Capability::Clock, Capability::Keyvalue].into(),
            hosts: vec![],
        },
        config: serde_json::json!({}),
        limits: Limits::default(),
    }
}

pub fn settings(directory: &Path, entries: impl IntoIterator<Item = (&'static str, EntrySettings)>) -> Settings {
    Settings {
        directory: directory.to_owned(),
        entries: entries
            .into_iter()
            .map(|(name, entry)| (name.to_owned(), entry))
            .collect::<BTreeMap<_, _>>(),
        ..Settings::default()
    }
}

/// A host, its policies not yet loaded.
pub fn host(settings: Settings) -> Policies {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let surroundings = Surroundings {
        store: Store::Memory,
        client: postern_policy::client().unwrap(),
    };
    let engines = Engines::new(64, Limits::default().memory).unwrap();
    Policies::new(engines, None, surroundings, settings)
}

/// The p-quantile of some times.
pub fn quantile(times: &mut [Duration], p: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * p) as usize]
}
