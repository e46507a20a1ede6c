//! `postern policy inspect`: describes a module without running it.

mod memories;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use postern_policy::{Capability, Module, ModuleKind};
use serde::Serialize;

use super::harness::Harness;
use super::{decision, grants};
use crate::output::{Output, json};
use crate::style::Style;
use crate::text::{counted, printable};
use memories::Memories;

#[derive(Debug, clap::Args)]
#[command(after_help = "The module is not run.\n\n\
    Examples:\n  \
    postern policy inspect rbac.wasm\n  \
    postern policy inspect rbac.wasm --json | jq -r .digest")]
pub(crate) struct Args {
    /// The module
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    /// Print one JSON document: kind, interface, size, digest, needs, can_use, memories, imports, exports
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let harness = Harness::new(1)?;
    let module = harness.module(&args.module)?;
    let info = ModuleInfo::of(&args.module, &module)?;
    Ok(Output::ok(if args.json {
        json(&info)?
    } else {
        info.text(Style::stdout())
    }))
}

/// A description of a module.
#[derive(Debug, Serialize)]
pub(super) struct ModuleInfo {
    file: String,
    /// `authorizer` or `http`.
    kind: &'static str,
    /// The exported interface through which it is called.
    interface: String,
    size: usize,
    digest: String,
    /// The capabilities that it must be granted to be loaded.
    needs: Vec<&'static str>,
    /// Optional capabilities, which it uses if they are granted.
    can_use: Vec<&'static str>,
    #[serde(flatten)]
    memories: Memories,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl ModuleInfo {
    pub(super) fn of(path: &Path, module: &Module) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (kind, interface) = match module.kind() {
            ModuleKind::Authorizer => ("authorizer", "postern:policy/authorizer".to_owned()),
            ModuleKind::Http => ("http", http_interface(module)),
        };
        let needs = module.required_capabilities();
        Ok(Self {
            file: path.display().to_string(),
            kind,
            interface,
            size: module.size(),
            digest: module.digest().to_string(),
            can_use: names(grants::usable(module).difference(&needs)),
            needs: names(&needs),
            memories: Memories::of(&bytes)?,
            imports: module.imports().to_vec(),
            exports: module.exports().to_vec(),
        })
    }

    pub(super) fn text(&self, style: Style) -> String {
        let needs = match self.needs.as_slice() {
            [] => "nothing".to_owned(),
            needs => needs.join(", "),
        };
        let memories = format!(
            "{}, {} at the start",
            counted(self.memories.memories, "memory", "memories"),
            decision::size(self.memories.initial_bytes)
        );
        let size = format!("{} ({} bytes)", decision::size(self.size), self.size);
        let mut text = format!("{}\n", style.bold(&printable(&self.file)));
        let mut row =
            |title: &str, value: &str| text.push_str(&format!("  {title:<9} {}\n", printable(value)));
        row("kind", &format!("{} ({})", self.kind, self.interface));
        row("size", &size);
        row("digest", &self.digest);
        row("needs", &needs);
        if !self.can_use.is_empty() {
            row("can use", &self.can_use.join(", "));
        }
        row("memory", &memories);
        for (title, names) in [("imports", &self.imports), ("exports", &self.exports)] {
            row(title, names.first().map_or("nothing", String::as_str));
            for name in names.iter().skip(1) {
                row("", name);
            }
        }
        text
    }
}

fn names<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> Vec<&'static str> {
    capabilities
        .into_iter()
        .map(|capability| capability.name())
        .collect()
}

fn http_interface(module: &Module) -> String {
    let handlers = ["wasi:http/incoming-handler@", "wasi:http/handler@"];
    let exported = |name: &&String| handlers.iter().any(|handler| name.starts_with(handler));
    module
        .exports()
        .iter()
        .find(exported)
        .cloned()
        .unwrap_or_default()
}
