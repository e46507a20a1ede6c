//! `postern policy new`: creates the crate of a policy.

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
    Within a checkout of Postern, the crate uses the SDK of the checkout; elsewhere, the SDK bundled with this program is \
    written into the crate, under postern/. The crate is a workspace of its own, even inside another one.")]
pub(crate) struct Args {
    /// The name of the crate
    #[arg(value_name = "NAME", value_parser = name::parse)]
    name: String,
    /// The SDK to write it with
    #[arg(long, value_enum, default_value_t = Template::Rust)]
    template: Template,
    /// The folder of postern-sdk, or its version on a registry
    #[arg(long, value_name = "FOLDER|VERSION", env = "POSTERN_SDK")]
    sdk: Option<String>,
    /// The folder of the crate; by default its name
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Template {
    /// postern-sdk: fast, and needs only the capabilities that it calls
    Rust,
    /// spin-sdk: an HTTP service, called through wasi:http
    Spin,
}

impl Template {
    /// The files of the template, by their path in the crate.
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
        "{} in {there}\n\nNext:\n  cd {}\n  postern policy test           builds it, and runs cases.yaml\n  \
         postern policy test --watch   again whenever you save\n  cargo test                    its unit tests, natively\n",
        style.success(&format!("Created the policy {}", args.name)),
        shell(&folder),
    )))
}

/// Creates the folder. An existing folder must be empty: nothing is overwritten.
fn create_folder(folder: &Path) -> Result<()> {
    let mut found = match std::fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()));
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
