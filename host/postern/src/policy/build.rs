//! `postern policy build`: from a crate to a component that the host takes.

mod cargo;
mod component;
mod project;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use postern_policy::Module;

use super::harness::Harness;
use super::inspect::ModuleInfo;
use crate::output::Output;
use crate::style::Style;
use project::Project;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A crate that depends on spin-sdk is built for wasm32-wasip2, for which cargo makes a component \
    itself; any other for wasm32-unknown-unknown, and made a component here, without a single import but those of \
    postern:policy.\n\n\
    Examples:\n  \
    postern policy build\n  \
    postern policy build policies/quota -o quota.wasm\n  \
    postern policy build --profile dev      quick to build, slow to run, with names in a trap's backtrace"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) crate_: CrateArgs,
    /// Write the component here; <target>/policy/<name>.wasm unless given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A crate to build, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CrateArgs {
    /// The crate: its folder or its Cargo.toml
    #[arg(value_name = "CRATE", default_value = ".")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) options: BuildOptions,
}

/// How a crate is built.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct BuildOptions {
    /// Cargo's profile: `policy` if the workspace has one, else `release`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The profile `release`, whatever the workspace has
    #[arg(long, conflicts_with = "profile")]
    release: bool,
    /// Cargo's target folder
    #[arg(long, value_name = "FOLDER")]
    target_dir: Option<PathBuf>,
}

/// A component that was built.
pub(super) struct BuiltComponent {
    pub(super) path: PathBuf,
    pub(super) module: Module,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let harness = Harness::new(1)?;
    let built = build(
        &harness,
        &args.crate_.path,
        &args.crate_.options,
        args.output.as_deref(),
    )?;
    let info = ModuleInfo::of(&built.path, &built.module)?;
    Ok(Output::ok(info.text(Style::stdout())))
}

/// Builds a crate, and writes the component.
pub(super) fn build(
    harness: &Harness,
    path: &Path,
    options: &BuildOptions,
    output: Option<&Path>,
) -> Result<BuiltComponent> {
    let project = Project::find(path)?;
    let target = project.kind.target();
    toolchain::require_target(target)?;
    let profile = match (&options.profile, options.release) {
        (Some(profile), _) => profile.clone(),
        (None, true) => "release".to_owned(),
        (None, false) => project.profile()?.to_owned(),
    };
    let artefact = cargo::build(&project, &profile, options.target_dir.as_deref())?;
    let wasm = std::fs::read(&artefact).with_context(|| format!("cannot read {}", artefact.display()))?;
    let component = component::to_component(project.kind, &wasm)?;
    let module = harness.compile(&component).with_context(|| {
        format!(
            "{} builds, and is no policy: {}",
            project.name,
            project.kind.hint()
        )
    })?;
    component::reject_foreign_imports(&module)?;

    let path = match output {
        Some(path) => path.to_owned(),
        None => {
            let target = options.target_dir.as_deref().unwrap_or(&project.target);
            target.join("policy").join(format!("{}.wasm", project.name))
        }
    };
    let cannot = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    std::fs::write(&path, &component).with_context(cannot)?;
    Ok(BuiltComponent { path, module })
}
