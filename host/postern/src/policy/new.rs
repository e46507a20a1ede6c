//! `postern policy new`: a crate to begin with.

mod bundle;
mod name;
mod sdk;

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::output::Output;
use crate::style::Style;
use sdk::Sdk;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy new quota\n  \
    postern policy new quota --sdk ../postern/policies/sdk\n  \
    postern policy new window --template spin --directory policies/window\n\n\
    Within a checkout of Postern its SDK is found; elsewhere the one that this program carries is put into the crate, \
    under postern/. The crate stands alone, also in the folder of another workspace.")]
pub(crate) struct Args {
    /// The crate's name
    #[arg(value_name = "NAME", value_parser = name::parse)]
    name: String,
    /// What it is written with
    #[arg(long, value_enum, default_value_t = Template::Rust)]
    template: Template,
    /// Postern's SDK: its folder, or a version on a registry
    #[arg(long, value_name = "FOLDER|VERSION", env = "POSTERN_SDK")]
    sdk: Option<String>,
    /// Where to put it; a folder of its name here, unless given
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Template {
    /// postern-sdk: quick, and nothing to grant but what it calls
    Rust,
    /// spin-sdk: an HTTP service, asked through wasi:http
    Spin,
}

impl Template {
    /// The files, by their place in the crate.
    fn files(self) -> [(&'static str, &'static str); 6] {
        macro_rules! template {
            ($folder:literal) => {
                [
                    (
                        "Cargo.toml",
                        include_str!(concat!("templates/", $folder, "/Cargo.toml.in")),
                    ),
                    (
                        "build.rs",
                        include_str!(concat!("templates/", $folder, "/build.rs.in")),
                    ),
                    (
                        "src/lib.rs",
                        include_str!(concat!("templates/", $folder, "/lib.rs.in")),
                    ),
                    (
                        "cases.yaml",
                        include_str!(concat!("templates/", $folder, "/cases.yaml")),
                    ),
                    (
                        "README.md",
                        include_str!(concat!("templates/", $folder, "/README.md.in")),
                    ),
                    (".gitignore", include_str!("templates/gitignore")),
                ]
            };
        }
        match self {
            Self::Rust => template!("rust"),
            Self::Spin => template!("spin"),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let folder = args
        .directory
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    let sdk = match args.template {
        Template::Rust => Some(Sdk::find(args.sdk.as_deref(), &folder)?),
        Template::Spin => None,
    };
    create_folder(&folder)?;
    if sdk == Some(Sdk::Bundled) {
        bundle::unpack(&folder)?;
    }
    let sdk = sdk.map_or_else(String::new, |sdk| sdk.dependency());
    for (file, text) in args.template.files() {
        let text = text.replace("{{name}}", &args.name).replace("{{sdk}}", &sdk);
        write(&folder.join(file), &text)?;
    }
    let style = Style::stdout();
    let there = folder.display();
    Ok(Output::ok(format!(
        "{} in {there}\n\nNext:\n  cd {}\n  postern policy test           builds it, and puts cases.yaml to it\n  \
         postern policy test --watch   again whenever you save\n  cargo test                    its own tests, natively\n",
        style.success(&format!("Made the policy {}", args.name)),
        shell(&folder),
    )))
}

/// Makes the folder. What is in one already is somebody's work.
fn create_folder(folder: &Path) -> Result<()> {
    let mut found = match std::fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", folder.display())),
    };
    if found.next().is_some() {
        bail!(
            "{} is not empty; nothing there is overwritten: name another with --directory",
            folder.display()
        );
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let write = || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::File::create_new(file)?.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

fn shell(folder: &Path) -> String {
    let text = folder.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        crate::text::shell_quoted(&text)
    }
}
