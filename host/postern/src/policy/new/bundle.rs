//! The SDK bundled with this program, for crates outside a checkout: it is on no registry.

use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::write;

/// Its folder in the new crate.
pub(super) const FOLDER: &str = "postern";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../../policies/", $name)))),*]
    };
}

/// Its files, by their path under [`FOLDER`]. The SDK includes the WIT files beside it.
const FILES: [(&str, &str); 16] = files![
    "sdk/src/bindings.rs",
    "sdk/src/capabilities.rs",
    "sdk/src/config.rs",
    "sdk/src/decision.rs",
    "sdk/src/json.rs",
    "sdk/src/lib.rs",
    "sdk/src/log.rs",
    "sdk/src/path.rs",
    "sdk/src/request.rs",
    "sdk/src/testing/host.rs",
    "sdk/src/testing/imports.rs",
    "sdk/src/testing/mod.rs",
    "sdk/src/testing/request.rs",
    "wit/capabilities.wit",
    "wit/types.wit",
    "wit/world.wit",
];
const MANIFEST: &str = include_str!("../../../../../policies/sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

/// Writes the SDK into the new crate.
pub(super) fn unpack(folder: &Path) -> Result<()> {
    let folder = folder.join(FOLDER);
    for (name, text) in FILES {
        write(&folder.join(name), text)?;
    }
    write(&folder.join("sdk/Cargo.toml"), &manifest()?)
}

/// The SDK's manifest, with inherited values taken from the workspace.
fn manifest() -> Result<String> {
    let broken = "the manifest of the bundled SDK is invalid";
    let mut manifest: Table = MANIFEST.parse().context(broken)?;
    let workspace: Table = WORKSPACE.parse().context(broken)?;
    let workspace = workspace.get("workspace").context(broken)?;
    for (section, source) in [("package", "package"), ("dependencies", "dependencies")] {
        let of_workspace = workspace.get(source).context(broken)?;
        let section = manifest.get_mut(section).and_then(Value::as_table_mut);
        for (key, value) in section.context(broken)? {
            if value.get("workspace").is_some() {
                *value = of_workspace.get(key).context(broken)?.clone();
            }
        }
    }
    // Its tests and the lints of this workspace are not bundled.
    manifest.remove("dev-dependencies");
    manifest.remove("lints");
    toml_edit::ser::to_string_pretty(&manifest).context(broken)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found(folder: &Path, below: &str, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                found(folder, &name, names);
            } else {
                names.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_sdk_is_bundled() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
        let mut existing = BTreeSet::new();
        for below in ["sdk/src", "wit"] {
            found(&policies, below, &mut existing);
        }
        let bundled: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(bundled, existing);
    }

    #[test]
    fn the_bundled_manifest_is_self_contained() {
        let text = manifest().unwrap();
        let manifest: Table = text.parse().unwrap();
        assert!(!text.contains("workspace = true"), "{text}");
        let dependencies = manifest["dependencies"].as_table().unwrap();
        assert!(
            dependencies
                .values()
                .all(|value| value.is_str() || value.get("version").is_some())
        );
        assert_eq!(manifest["package"]["name"].as_str(), Some("postern-sdk"));
    }
}
