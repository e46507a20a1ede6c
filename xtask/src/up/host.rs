//! The demo's policy host, with a KMS behind it, and its audit log.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_testbed::kms_proxy::{self, KmsProxy};
use postern_testbed::policy_host::PolicyHost;
use serde_json::json;

use crate::build::modules::Modules;
use crate::command;

/// The keys in the token, a key for each use.
const SIGNERS: [(&str, &[&str]); 4] = [
    ("demo-2026", &["payload"]),
    ("demo-manifests-2026", &["manifest"]),
    ("demo-log-2026", &["checkpoint"]),
    ("demo-root-2026", &["rotation"]),
];
/// How long the end of the log may take to be signed.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(10);

/// Starts a KMS proxy with a token of its own.
pub(super) fn kms(modules: &Modules) -> Result<KmsProxy> {
    KmsProxy::start_with_uses(modules.kms_proxy.clone(), &SIGNERS).context("cannot start the KMS proxy")
}

/// Starts a host with two of the modules that ship, which signs through the KMS and keeps an audit log.
pub(super) fn start(modules: &Modules, kms: &KmsProxy) -> Result<PolicyHost> {
    let mut registry = String::new();
    for (signer, uses) in SIGNERS {
        let key = kms
            .public_key(signer)
            .context("the KMS proxy does not tell its public keys")?;
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
        for name in ["rbac.wasm", "sentinel.wasm"] {
            fs::copy(modules.folder.join(name), folder.join(name))?;
        }
        fs::write(folder.join("signers.toml"), &registry)
    };
    let environment = [
        ("SIGNING_PROXY_API_KEY", kms_proxy::TOKEN),
        // Of the port, which it has besides; gates come by the socket.
        ("POSTERN_GATE_TOKEN", "a-token-that-no-gate-of-this-host-shows"),
    ];
    PolicyHost::start_with(modules.postern.clone(), &settings, &environment, prepare)
        .context("cannot start the policy host")
}

/// The line that verifies the log of this host.
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

/// Waits until the end of the log has been signed, and verifies all of it.
pub(super) fn verify(modules: &Modules, host: &PolicyHost) -> Result<()> {
    // Gates tell within 200 ms, and the end is signed a second later.
    std::thread::sleep(Duration::from_millis(2500));
    let deadline = Instant::now() + CHECKPOINT_DEADLINE;
    while fs::metadata(host.folder().join("audit.notes")).map_or(0, |notes| notes.len()) == 0 {
        if Instant::now() > deadline {
            bail!(
                "no checkpoint of the audit log came; the host's log:\n{}",
                host.log()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    command::run(Command::new(&modules.postern).args(verification(host)))
}
