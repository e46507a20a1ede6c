//! Test hosts and modules.
#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_policy::{
    Capability, Engines, EntrySettings, Grants, Header, HostServices, Identity, Limits, Policies, Request,
    Settings, Source, Store,
};
use postern_testbed::text_modules;

/// A module with these fields and instructions; see [`text_modules::authorizer`].
pub fn module(fields: &str, authorize: &str) -> Vec<u8> {
    text_modules::authorizer(fields, authorize).unwrap()
}

/// A module that denies every request with this code.
pub fn denying_module(code: &str) -> Vec<u8> {
    text_modules::denying_module(code).unwrap()
}

/// Fields and instructions that deny with this code.
pub fn denial(code: &str) -> (String, String) {
    text_modules::denial(code)
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

/// An entry for a file, with all capabilities that need no network.
pub fn entry(file: impl Into<PathBuf>) -> EntrySettings {
    EntrySettings {
        source: Source::File {
            module: file.into(),
            digest: None,
            cases: None,
        },
        grants: Grants {
            capabilities: [
                Capability::Config,
                Capability::Log,
                Capability::Clock,
                Capability::Keyvalue,
            ]
            .into(),
            hosts: vec![],
        },
        config: serde_json::json!({}),
        limits: Limits::default(),
    }
}

pub fn settings(
    directory: &Path,
    entries: impl IntoIterator<Item = (&'static str, EntrySettings)>,
) -> Settings {
    Settings {
        directory: directory.to_owned(),
        entries: entries
            .into_iter()
            .map(|(name, entry)| (name.to_owned(), entry))
            .collect::<BTreeMap<_, _>>(),
        ..Settings::default()
    }
}

/// A host whose policies are not loaded yet.
pub fn host(settings: Settings) -> Policies {
    let services = HostServices {
        store: Store::Memory,
        client: postern_policy::http_client().unwrap(),
        signer: None,
    };
    // Enough instances for the concurrency limits of all entries together.
    let engines = Engines::new(160, Limits::default().memory).unwrap();
    Policies::new(engines, None, services, settings)
}

/// The p-quantile of durations.
pub fn quantile(times: &mut [Duration], p: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * p) as usize]
}
