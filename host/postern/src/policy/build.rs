//! `postern policy build`: builds a crate into a component that the host accepts.

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
    after_help = "A crate that depends on spin-sdk is built for wasm32-wasip2, for which cargo links a component; any other \
    crate is built for wasm32-unknown-unknown and converted into a component that imports only interfaces of \
    postern:policy.\n\n\
    Examples:\n  \
    postern policy build\n  \
    postern policy build policies/quota -o quota.wasm\n  \
    postern policy build --profile dev      fast to build, slow to run, with names in a trap's backtrace"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) crate_: CrateArgs,
    /// The component file; by default <target>/policy/<name>.wasm
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A crate to build.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CrateArgs {
    /// The crate: its folder or its Cargo.toml
    #[arg(value_name = "CRATE", default_value = ".")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) options: BuildOptions,
}

/// The options of a build.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct BuildOptions {
    /// The cargo profile; by default `policy` if the workspace has one, otherwise `release`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Use the profile `release`, even if the workspace has a profile `policy`
    #[arg(long, conflicts_with = "profile")]
    release: bool,
    /// The target folder of cargo
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

/// Builds a crate and writes the component.
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
            "{} builds, but is not a policy: {}",
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
