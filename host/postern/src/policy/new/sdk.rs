//! Locates Postern's SDK for the new crate.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::bundle;

/// The path of the SDK within a checkout.
const IN_CHECKOUT: &str = "policies/sdk";

/// The dependency of the new crate on the SDK.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    Path(PathBuf),
    Version(String),
    /// The SDK bundled with this program.
    Bundled,
}

impl Sdk {
    /// Finds the requested SDK; by default that of the checkout around the new crate or around this program, or the
    /// bundled one.
    pub(super) fn find(requested: Option<&str>, folder: &Path) -> Result<Self> {
        if let Some(requested) = requested {
            return Self::parse(requested);
        }
        let folder = std::path::absolute(folder).context("the working directory is gone")?;
        if let Some(checkout) = checkout(&folder) {
            return Ok(Self::Path(path_up(&folder, &checkout).join(IN_CHECKOUT)));
        }
        let program = std::env::current_exe().ok();
        if let Some(checkout) = program.as_deref().and_then(checkout) {
            return Ok(Self::Path(checkout.join(IN_CHECKOUT)));
        }
        Ok(Self::Bundled)
    }

    fn parse(requested: &str) -> Result<Self> {
        let folder = Path::new(requested);
        if folder.is_dir() {
            // The folder of the SDK, or of the checkout that contains it.
            let sdk = [folder.to_owned(), folder.join(IN_CHECKOUT)];
            let found = sdk.iter().find(|folder| is_sdk(folder));
            let found =
                found.with_context(|| format!("--sdk: {requested} is not the folder of postern-sdk"))?;
            return Ok(Self::Path(found.canonicalize()?));
        }
        let version = requested.trim_start_matches(['=', '^', '~']);
        let is_version = version.starts_with(|c: char| c.is_ascii_digit())
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
        ensure!(
            is_version,
            "--sdk: {requested} is neither a folder nor a version such as 0.1"
        );
        Ok(Self::Version(requested.to_owned()))
    }

    /// The value of the dependency in Cargo.toml.
    pub(super) fn dependency(&self) -> String {
        match self {
            // A TOML literal string, which needs no escapes for the separators of Windows.
            Self::Path(path) => format!("{{ path = '{}' }}", path.display()),
            Self::Version(version) => format!("\"{version}\""),
            Self::Bundled => format!("{{ path = '{}/sdk' }}", bundle::FOLDER),
        }
    }
}

fn checkout(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|folder| is_sdk(&folder.join(IN_CHECKOUT)))
        .map(Path::to_owned)
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
    let manifest = manifest
        .ok()
        .and_then(|text| toml::from_str::<toml::Table>(&text).ok());
    let name = manifest
        .as_ref()
        .and_then(|manifest| manifest.get("package")?.get("name")?.as_str());
    name == Some("postern-sdk")
}

/// The relative path from a folder up to the checkout around it: a relative path survives a move of the checkout.
fn path_up(folder: &Path, checkout: &Path) -> PathBuf {
    let below = folder.strip_prefix(checkout).unwrap_or(Path::new(""));
    let names = below
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    names.map(|_| "..").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_given_or_found() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(
            Sdk::find(None, &here.join("a/b")).unwrap(),
            Sdk::Path("../../../../policies/sdk".into())
        );
        let checkout = here.join("../..");
        let sdk = checkout.join(IN_CHECKOUT);
        for requested in [&checkout, &sdk] {
            let found = Sdk::find(requested.to_str(), here).unwrap();
            assert_eq!(found, Sdk::Path(sdk.canonicalize().unwrap()));
        }
        assert_eq!(Sdk::parse("0.1").unwrap().dependency(), "\"0.1\"");
        for bad in ["nowhere/sdk", "latest", "", env!("CARGO_MANIFEST_DIR")] {
            assert!(Sdk::parse(bad).is_err(), "{bad}");
        }
    }
}
