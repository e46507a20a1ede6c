//! The demo's policy host, its KMS proxy and its audit log.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_testbed::kms_proxy::{self, KmsProxy};
use postern_testbed::policy_host::PolicyHost;
use serde_json::json;
use tempfile::TempDir;

use crate::build::modules::Modules;
use crate::command;

/// The shipped modules that the demo uses.
pub(super) const MODULES: [&str; 2] = ["rbac", "sentinel"];
/// The signers, one for each use.
const SIGNERS: [(&str, &[&str]); 4] = [
    ("demo-2026", &["payload"]),
    ("demo-manifests-2026", &["manifest"]),
    ("demo-log-2026", &["checkpoint"]),
    ("demo-root-2026", &["rotation"]),
];
/// How long the first checkpoint may take.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(10);

/// What is built last, because it takes longest. Fields drop in this order: the host stops before the proxy that it calls.
pub(super) struct Services {
    pub(super) host: PolicyHost,
    pub(super) kms: KmsProxy,
}

impl Services {
    /// Starts the KMS proxy, and the policy host in `folder`.
    pub(super) fn start(modules: &Modules, folder: TempDir) -> Result<Self> {
        let kms = start_kms(modules)?;
        let host = start_host(modules, &kms, folder)?;
        Ok(Self { host, kms })
    }
}

/// Starts a KMS proxy with its own PKCS#11 token.
fn start_kms(modules: &Modules) -> Result<KmsProxy> {
    KmsProxy::start_with_uses(modules.kms_proxy.clone(), &SIGNERS).context("cannot start the KMS proxy")
}

/// Starts a host in `folder`, with two of the shipped modules, which signs through the KMS proxy and keeps an audit log.
fn start_host(modules: &Modules, kms: &KmsProxy, folder: TempDir) -> Result<PolicyHost> {
    let mut registry = String::new();
    for (signer, uses) in SIGNERS {
        let key = kms
            .public_key(signer)
            .context("the KMS proxy does not list its public keys")?;
        registry +=
            &format!("[signers.{signer}]\npublic_key = \"{key}\"\nstatus = \"active\"\nuses = {uses:?}\n\n");
    }
    let entries = json!({
        "rbac": {"file": "rbac.wasm", "grants": ["config"], "config": {"rules": [
            {"methods": ["GET"], "path": "/reports/{id}", "roles": ["User", "Admin"]},
            {"path": "/reports/{id}/draft", "roles": ["Admin"]},
        ]}},
        "sentinel": {"file": "sentinel.wasm", "grants": ["config"], "config": {"rules": [
            {"name": "size", "methods": ["POST"], "path": "/allocate", "require": ["/team"],
             "limits": [{"at": "/cpus", "min": 1, "max": 64}]},
        ]}},
    });
    let settings = json!({
        "policies": {"entries": entries},
        "gate": {"token": {"env": "POSTERN_GATE_TOKEN"}},
        "signing": {
            "proxy": kms.url(), "signer": "demo-2026", "signers": "signers.toml", "required": true,
            "uses": {"manifest": "demo-manifests-2026", "checkpoint": "demo-log-2026", "rotation": "demo-root-2026"},
            "send_signer_id": true,
        },
        "audit": {
            "store": "sqlite:audit.db", "origin": "postern.example/demo",
            "checkpoints": {"after": "1s", "file": "audit.notes"},
        },
    });
    let prepare = |folder: &Path| {
        for name in MODULES.map(|name| format!("{name}.wasm")) {
            fs::copy(modules.folder.join(&name), folder.join(&name))?;
        }
        fs::write(folder.join("signers.toml"), &registry)
    };
    let environment = [
        ("SIGNING_PROXY_API_KEY", kms_proxy::TOKEN),
        // For its TCP port, which is not used: the gate calls the Unix socket.
        ("POSTERN_GATE_TOKEN", "a-token-that-no-gate-presents"),
    ];
    PolicyHost::start_in(folder, modules.postern.clone(), &settings, &environment, prepare)
        .context("cannot start the policy host")
}

/// The arguments of `postern` that verify the log of this host.
pub(super) fn verification(host: &PolicyHost) -> Vec<String> {
    let file = |name: &str| host.folder().join(name).display().to_string();
    [
        "audit",
        "verify",
        "--store",
        &format!("sqlite:{}", file("audit.db")),
        "--signers",
        &file("signers.toml"),
        "--checkpoints",
        &file("audit.notes"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Waits for a checkpoint over the log, and verifies the log.
pub(super) fn verify(modules: &Modules, host: &PolicyHost) -> Result<()> {
    // The gate has retried at most every five seconds while there was no host: its first events come with the next retry,
    // and a checkpoint a second later.
    std::thread::sleep(Duration::from_millis(6500));
    let deadline = Instant::now() + CHECKPOINT_DEADLINE;
    while fs::metadata(host.folder().join("audit.notes")).map_or(0, |notes| notes.len()) == 0 {
        if Instant::now() > deadline {
            bail!(
                "the audit log has no checkpoint; the log of the host:\n{}",
                host.log()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    command::run(Command::new(&modules.postern).args(verification(host)))
}
