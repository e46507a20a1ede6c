//! The crate to build, as cargo describes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{CrateType, DependencyKind, MetadataCommand, Package};

/// The kind of a crate, which decides how it becomes a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrateKind {
    /// Written against `postern:policy`: a core module, converted into a component here.
    Authorizer,
    /// Written with spin-sdk: a component that cargo links.
    Spin,
}

impl CrateKind {
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Authorizer => "wasm32-unknown-unknown",
            Self::Spin => "wasm32-wasip2",
        }
    }

    /// What the crate must contain to be a policy.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Authorizer => "it needs `postern_sdk::policy!(authorize);`, once",
            Self::Spin => "it needs a function under `#[http_service]`, once",
        }
    }
}

/// A crate to build.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) name: String,
    pub(super) manifest: PathBuf,
    pub(super) kind: CrateKind,
    /// The default target folder of cargo.
    pub(super) target: PathBuf,
    workspace: PathBuf,
}

impl Project {
    /// Finds the crate in a folder, or of a Cargo.toml.
    pub(super) fn find(path: &Path) -> Result<Self> {
        let manifest = if path.is_dir() {
            path.join("Cargo.toml")
        } else {
            path.to_owned()
        };
        let manifest = manifest.canonicalize().with_context(|| {
            format!(
                "no crate in {}: create one with `postern policy new NAME`",
                path.display()
            )
        })?;
        ensure!(
            manifest.file_name().is_some_and(|name| name == "Cargo.toml"),
            "{} is neither a crate's folder nor a Cargo.toml",
            path.display()
        );
        let metadata = MetadataCommand::new()
            .manifest_path(&manifest)
            .no_deps()
            .exec()
            .map_err(|error| match error {
                cargo_metadata::Error::CargoMetadata { stderr } => {
                    anyhow::anyhow!("cargo rejects {}: {}", manifest.display(), stderr.trim())
                }
                error => anyhow::anyhow!("cannot run cargo, which is needed to build policies: {error}"),
            })?;
        let of_manifest = |package: &&Package| package.manifest_path.as_std_path() == manifest;
        let Some(package) = metadata.packages.iter().find(of_manifest) else {
            bail!(
                "{} is a workspace; name the crate of a policy in it",
                manifest.display()
            );
        };
        let library = |target: &cargo_metadata::Target| target.crate_types.contains(&CrateType::CDyLib);
        ensure!(
            package.targets.iter().any(library),
            "{} is not a library that can be built for wasm: add this to its Cargo.toml\n\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]",
            package.name
        );
        let spin = package
            .dependencies
            .iter()
            .any(|dependency| dependency.name == "spin-sdk" && dependency.kind == DependencyKind::Normal);
        Ok(Self {
            name: package.name.to_string(),
            kind: if spin {
                CrateKind::Spin
            } else {
                CrateKind::Authorizer
            },
            target: metadata.target_directory.into_std_path_buf(),
            workspace: metadata.workspace_root.into_std_path_buf(),
            manifest,
        })
    }

    /// The default profile: `policy` if the workspace has one, otherwise `release`.
    pub(super) fn profile(&self) -> Result<&'static str> {
        let path = self.workspace.join("Cargo.toml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let policy = manifest
            .get("profile")
            .and_then(|profiles| profiles.get("policy"));
        Ok(if policy.is_some() { "policy" } else { "release" })
    }
}
