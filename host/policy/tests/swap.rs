//! Policies are swapped while they serve. A new module that fails to load is reported, and the old one stays active.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ed25519_compact::{KeyPair, Seed};
use postern_policy::{
    Capability, Change, Decision, DenialContent, Digest, EntrySettings, Failure, ListedFile, ListedModule,
    Manifest, Policies, Settings, Source,
};
use support::{denying_module, entry, host, module, request, settings};

/// The code that the module under this name denies with: its version.
async fn version(host: &Policies, name: &str) -> Result<String, Failure> {
    match host.decide(name, &request()).await?.decision {
        Decision::Deny(denial) => match denial.content {
            DenialContent::Problem { code, .. } => Ok(code),
            DenialContent::Body(_) => panic!("a problem"),
        },
        Decision::Allow(_) => panic!("a denial"),
    }
}

/// Installs a file atomically.
fn install(directory: &Path, name: &str, bytes: &[u8]) {
    let temporary = directory.join(format!("{name}.new"));
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(temporary, directory.join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_every_decision_is_of_one_version_or_the_other() {
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), "p.wasm", &denying_module("version_0"));
    let host = Arc::new(host(settings(directory.path(), [("p", entry("p.wasm"))])));
    assert_eq!(host.load().await.errors().count(), 0);

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (host, stop) = (Arc::clone(&host), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                let mut calls = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    seen.insert(version(&host, "p").await.expect("no request is lost"));
                    calls += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                (calls, seen)
            })
        })
        .collect();
    for i in 1..=20 {
        let (before, after) = (format!("version_{}", i - 1), format!("version_{i}"));
        assert_eq!(version(&host, "p").await.unwrap(), before);
        install(directory.path(), "p.wasm", &denying_module(&after));
        let report = host.load().await;
        assert!(
            matches!(report.entries["p"], Ok(Change::Swapped { .. })),
            "{report:?}"
        );
        assert_eq!(
            version(&host, "p").await.unwrap(),
            after,
            "at once after the swap"
        );
    }
    stop.store(true, Ordering::Relaxed);
    let known: BTreeSet<_> = (0..=20).map(|i| format!("version_{i}")).collect();
    for caller in callers {
        let (calls, seen) = caller.await.unwrap();
        assert!(calls > 20 && seen.is_subset(&known), "{calls} {seen:?}");
    }
    assert_eq!(host.load().await.entries["p"], Ok(Change::Unchanged));
}

fn signer() -> KeyPair {
    KeyPair::from_seed(Seed::new([7; 32]))
}

const CASES: &str = "cases: [{name: it denies, expect: {deny: {code: good}}}]";

/// Writes a signed module to a directory and returns settings that name it.
fn signed(directory: &Path) -> Settings {
    let wasm = denying_module("good");
    install(directory, "p.wasm", &wasm);
    install(directory, "p.cases.yaml", CASES.as_bytes());
    let listed = ListedModule {
        file: "p.wasm".into(),
        digest: Digest::of(&wasm),
        grants: [Capability::Config].into(),
        cases: Some(ListedFile {
            file: "p.cases.yaml".into(),
            digest: Digest::of(CASES.as_bytes()),
        }),
    };
    let mut manifest = Manifest {
        version: 1,
        serial: 0,
        not_after: None,
        modules: [("p".to_owned(), listed)].into(),
        signatures: vec![],
    };
    manifest.sign("ann", &signer().sk).unwrap();
    write(directory, &manifest);
    let mut entry = entry("");
    entry.source = Source::Manifest("p".into());
    entry.grants.capabilities = [Capability::Config].into();
    Settings {
        manifest: Some("manifest.json".into()),
        signers: [("ann".to_owned(), signer().pk)].into(),
        strict: true,
        ..settings(directory, [("p", entry)])
    }
}

fn write(directory: &Path, manifest: &Manifest) {
    install(directory, "manifest.json", &serde_json::to_vec(manifest).unwrap());
}

fn read(directory: &Path) -> Manifest {
    Manifest::parse(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap()
}

/// Changes the manifest and signs it again.
fn resign(directory: &Path, change: impl FnOnce(&mut ListedModule)) {
    let mut manifest = read(directory);
    change(manifest.modules.get_mut("p").unwrap());
    manifest.sign("ann", &signer().sk).unwrap();
    write(directory, &manifest);
}

/// Replaces the module and signs the manifest that lists it.
fn list(directory: &Path, wasm: &[u8]) {
    install(directory, "p.wasm", wasm);
    resign(directory, |listed| listed.digest = Digest::of(wasm));
}

/// Description, change to the files, expected kind of the error, and part of its text.
type Tampering = (&'static str, fn(&Path), &'static str, &'static str);

const TAMPERINGS: [Tampering; 15] = [
    (
        "another module",
        |d| install(d, "p.wasm", &denying_module("evil")),
        "digest",
        "should be",
    ),
    (
        "a truncated module",
        |d| {
            let wasm = std::fs::read(d.join("p.wasm")).unwrap();
            install(d, "p.wasm", &wasm[..wasm.len() / 2]);
        },
        "digest",
        "should be",
    ),
    (
        "no module",
        |d| std::fs::remove_file(d.join("p.wasm")).unwrap(),
        "read",
        "No such file",
    ),
    (
        "other cases",
        |d| install(d, "p.cases.yaml", b"cases: []"),
        "digest",
        "should be",
    ),
    (
        "a manifest without signatures",
        |d| {
            let mut manifest = read(d);
            manifest.signatures.clear();
            write(d, &manifest);
        },
        "manifest",
        "not signed",
    ),
    (
        "a manifest signed by another key",
        |d| {
            let mut manifest = read(d);
            manifest
                .sign("ann", &KeyPair::from_seed(Seed::new([9; 32])).sk)
                .unwrap();
            write(d, &manifest);
        },
        "manifest",
        "is invalid",
    ),
    (
        "a manifest signed by an unknown signer",
        |d| {
            let mut manifest = read(d);
            manifest.signatures[0].signer = "eve".into();
            write(d, &manifest);
        },
        "manifest",
        "not signed by a trusted signer",
    ),
    (
        "a manifest changed after it was signed",
        |d| {
            let mut manifest = read(d);
            manifest
                .modules
                .get_mut("p")
                .unwrap()
                .grants
                .insert(Capability::Http);
            write(d, &manifest);
        },
        "manifest",
        "is invalid",
    ),
    (
        "a truncated manifest",
        |d| {
            let text = std::fs::read(d.join("manifest.json")).unwrap();
            install(d, "manifest.json", &text[..text.len() - 10]);
        },
        "manifest",
        "not a manifest",
    ),
    (
        "no manifest",
        |d| std::fs::remove_file(d.join("manifest.json")).unwrap(),
        "read",
        "No such file",
    ),
    (
        "a core module, signed",
        |d| list(d, b"\0asm\x01\0\0\0"),
        "module",
        "core WebAssembly",
    ),
    (
        "compiled code, signed",
        |d| list(d, b"\x7fELF and so on"),
        "module",
        "compiled code",
    ),
    (
        "a component that is no policy, signed",
        |d| list(d, b"\0asm\x0d\0\x01\0"),
        "module",
        "exports neither",
    ),
    (
        "a module that wants more than it is granted, signed",
        |d| {
            let import = r#"(import "postern:policy/clock@0.1.0" "now" (func $now (result i64)))"#;
            list(d, &module(import, "(drop (call $now)) unreachable"));
        },
        "link",
        "`clock`",
    ),
    (
        "a module that fails its cases, signed",
        |d| list(d, &denying_module("other")),
        "cases",
        "good",
    ),
];

#[tokio::test]
async fn tampered_files_are_rejected_and_the_loaded_policy_stays_active() {
    for (what, tamper, kind, text) in TAMPERINGS {
        let directory = tempfile::tempdir().unwrap();
        let host = host(signed(directory.path()));
        assert_eq!(host.load().await.errors().count(), 0, "the signed files load");
        assert!(host.verify().await.is_empty());
        assert_eq!(host.status()[0].signers, ["ann"]);

        tamper(directory.path());
        let report = host.load().await;
        let (_, error) = report.errors().next().unwrap_or_else(|| panic!("{what}: loaded"));
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
        assert_eq!(
            version(&host, "p").await.unwrap(),
            "good",
            "{what}: the old policy stays active"
        );
        assert!(host.faults()["p"].contains(text), "{what}");

        let fresh = support::host(signed_settings(directory.path()));
        assert_eq!(
            fresh.load().await.errors().count(),
            1,
            "{what}: a fresh host does not load it"
        );
        assert_eq!(version(&fresh, "p").await, Err(Failure::NotLoaded("p".into())));
    }
}

/// The settings of [`signed`], without writing files to the directory.
fn signed_settings(directory: &Path) -> Settings {
    let elsewhere = tempfile::tempdir().unwrap();
    Settings {
        directory: directory.to_owned(),
        ..signed(elsewhere.path())
    }
}

#[tokio::test]
async fn verification_reports_files_changed_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let host = host(signed(directory.path()));
    host.load().await;
    let original = std::fs::read(directory.path().join("p.wasm")).unwrap();
    install(directory.path(), "p.wasm", &denying_module("evil"));
    assert_eq!(host.verify().await["p"].kind, "digest");
    assert!(host.status()[0].fault.is_some());
    install(directory.path(), "p.wasm", &original);
    assert!(host.verify().await.is_empty());
    assert!(host.status()[0].fault.is_none(), "restored");
}

#[tokio::test]
async fn settings_beyond_the_signed_manifest_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let with = |change: fn(&mut Settings, &mut EntrySettings)| {
        let mut settings = signed(directory.path());
        let mut entry = settings.entries.remove("p").unwrap();
        change(&mut settings, &mut entry);
        settings.entries.insert("p".into(), entry);
        settings
    };
    let unlisted = |_: &mut Settings, entry: &mut EntrySettings| entry.source = Source::Manifest("q".into());
    let file: fn(&mut Settings, &mut EntrySettings) =
        |_, entry| entry.source = support::entry("p.wasm").source;
    for (what, change, kind) in [
        (
            "a grant beyond the manifest's",
            (|_: &mut Settings, entry: &mut EntrySettings| {
                entry.grants.capabilities.insert(Capability::Http);
            }) as fn(&mut Settings, &mut EntrySettings),
            "grants",
        ),
        ("a module that is not listed", unlisted, "unlisted"),
        ("a file, where everything must be signed", file, "unsigned"),
        ("no signers", |settings, _| settings.signers.clear(), "manifest"),
        ("no manifest", |settings, _| settings.manifest = None, "unlisted"),
    ] {
        let host = host(with(change));
        let report = host.load().await;
        let (_, error) = report.errors().next().unwrap_or_else(|| panic!("{what}: loaded"));
        assert_eq!(error.kind, kind, "{what}: {error}");
    }
}

#[tokio::test]
async fn one_failing_entry_does_not_block_swaps_of_others() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.wasm", "b.wasm"] {
        install(directory.path(), name, &denying_module("one"));
    }
    let host = host(settings(
        directory.path(),
        [("a", entry("a.wasm")), ("b", entry("b.wasm"))],
    ));
    host.load().await;
    install(directory.path(), "a.wasm", b"nonsense");
    install(directory.path(), "b.wasm", &denying_module("two"));
    let report = host.load().await;
    assert!(report.entries["a"].is_err());
    assert!(matches!(report.entries["b"], Ok(Change::Swapped { .. })));
    assert_eq!(version(&host, "a").await.unwrap(), "one");
    assert_eq!(version(&host, "b").await.unwrap(), "two");

    let only_b = settings(directory.path(), [("b", entry("b.wasm"))]);
    assert_eq!(host.replace(only_b).await.entries["a"], Ok(Change::Removed));
    assert_eq!(version(&host, "a").await, Err(Failure::NotLoaded("a".into())));
}
