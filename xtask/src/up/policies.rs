//! The demo's policy host.

use std::fs;

use anyhow::{Context, Result};
use postern_testbed::policy_host::PolicyHost;
use serde_json::json;

use crate::build::modules::Modules;

/// Starts a host with two of the modules that ship.
pub(super) fn start(modules: &Modules) -> Result<PolicyHost> {
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
    let prepare = |folder: &std::path::Path| {
        for name in ["rbac.wasm", "sentinel.wasm"] {
            fs::copy(modules.folder.join(name), folder.join(name))?;
        }
        Ok(())
    };
    PolicyHost::start(modules.postern.clone(), &json!({ "entries": entries }), prepare)
        .context("cannot start the policy host")
}
