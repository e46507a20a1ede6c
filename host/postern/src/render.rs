//! `postern render`: prints a validated `gate.yaml` in a form that Envoy accepts.

mod envoy;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::check;
use crate::input;
use crate::load;
use crate::output::Output;
use crate::secrets::{self, UnsetSecret};
use envoy::Filter;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern render gate.yaml                          one line of JSON, for the configuration's StringValue\n  \
    postern render gate.yaml --as ecds --out /etc/envoy/gate.ecds.yaml\n                                                    \
    the filter configuration for Envoy to watch, replaced atomically\n  \
    postern render gate.yaml --as envoy --ecds /etc/envoy/gate.ecds.yaml\n                                                    \
    the entry of http_filters that watches that file\n  \
    postern render gate.yaml --as envoy --wasm /etc/postern/postern.wasm\n  \
    postern render gate.yaml > gate.json              and back: postern check gate.json")]
pub(crate) struct Args {
    /// The configuration, YAML or JSON; `-` reads standard input
    #[arg(value_name = "GATE.yaml")]
    file: String,
    /// The output form
    #[arg(long = "as", value_enum, default_value = "json")]
    form: OutputForm,
    /// The path at which Envoy loads the filter module; for --as envoy and --as ecds
    #[arg(long, value_name = "FILE", default_value = "/etc/postern/postern.wasm")]
    wasm: String,
    /// The file that Envoy watches for the filter configuration; for --as envoy, which otherwise prints it inline
    #[arg(long, value_name = "FILE")]
    ecds: Option<String>,
    /// Write to this file by an atomic rename, which Envoy notices, instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputForm {
    /// One line of JSON
    Json,
    /// An entry of Envoy's http_filters, with all settings that Postern needs
    Envoy,
    /// A filter configuration file for Envoy to watch (ECDS); a change applies to open connections at once
    Ecds,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    ensure!(
        args.ecds.is_none() || args.form == OutputForm::Envoy,
        "--ecds is only for --as envoy; --out writes to a file"
    );
    // Render only what the filter accepts.
    let loaded = match load::file(&args.file, UnsetSecret::Placeholder) {
        Ok(loaded) => loaded,
        Err(invalid) => return check::invalid(input::display_name(&args.file), &invalid, false),
    };
    let json = loaded.document.to_string();
    let variables: BTreeSet<&str> = secrets::references(&loaded.config)
        .into_iter()
        .map(|(_, variable)| variable)
        .collect();
    let filter = Filter {
        json: &json,
        wasm: &args.wasm,
        variables: &variables,
    };
    let text = match (args.form, &args.ecds) {
        (OutputForm::Json, _) => format!("{json}\n"),
        (OutputForm::Envoy, Some(file)) => envoy::config_discovery(file),
        (OutputForm::Envoy, None) => filter.inline(),
        (OutputForm::Ecds, _) => filter.resource(),
    };
    match &args.out {
        None => Ok(Output::ok(text)),
        Some(file) => {
            replace(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(Output::ok(String::new()))
        }
    }
}

/// Replaces the file by an atomic rename: a reader sees the old version or the new one, never a part.
fn replace(file: &Path, text: &str) -> Result<()> {
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Envoy may run as another user, and the file holds no secret.
    let mut new = tempfile::Builder::new()
        .prefix(".gate-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}
