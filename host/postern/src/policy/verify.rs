//! `postern policy verify`: verifies a manifest as the host would.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use ed25519_compact::PublicKey;
use postern_policy::{Capability, Digest, Grants, ListedFile, ListedModule, Manifest, Signers};
use serde::Serialize;

use super::harness::Harness;
use super::{sign, signers, test};
use crate::output::{Exit, Output, json};
use crate::style::Style;
use crate::text::{counted, printable};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy verify manifest.json --signer ann=ed25519:MCowBQYDK2VwAyEA…\n  \
    postern policy verify manifest.json --settings host.yaml\n  \
    postern policy verify manifest.json --settings host.yaml --no-compile   only signature and digests\n\n\
    A host also rejects a serial lower than one it has accepted; `postern serve --check` compares them.\n\n\
    Exit code 0: a host would accept it; 2: it would not; 3: unreadable file or bad usage.")]
pub(crate) struct Args {
    /// The manifest
    #[arg(value_name = "MANIFEST.json")]
    manifest: PathBuf,
    /// A trusted signer; repeatable
    #[arg(long = "signer", value_name = "NAME=KEY", value_parser = signers::parse)]
    signers: Vec<(String, PublicKey)>,
    /// Use the signers of these host settings
    #[arg(long, value_name = "FILE", conflicts_with = "signers")]
    settings: Option<PathBuf>,
    /// Do not compile the modules or run their cases
    #[arg(long)]
    no_compile: bool,
    /// Print one JSON document: verified, checks
    #[arg(long)]
    json: bool,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    /// The module, or `signature`.
    what: String,
    passed: bool,
    detail: String,
}

#[derive(Serialize)]
struct Document<'a> {
    verified: bool,
    checks: &'a [Check],
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let name = args.manifest.display().to_string();
    let known: Signers = match &args.settings {
        Some(file) => signers::from_settings(file)?,
        None => args.signers.iter().cloned().collect(),
    };
    ensure!(
        !known.is_empty(),
        "no trusted signer given: pass --signer NAME=ed25519:BASE64, or --settings host.yaml"
    );
    let text = std::fs::read(&args.manifest).with_context(|| format!("cannot read {name}"))?;
    let manifest = Manifest::parse(&text).with_context(|| name.clone())?;
    let folder = sign::folder(&args.manifest);

    let mut checks = vec![
        check("signature", signature(&manifest, &known)),
        check("serial", serial(&manifest)),
    ];
    let harness = if args.no_compile {
        None
    } else {
        Some(Harness::new(2)?)
    };
    for (module, listed) in &manifest.modules {
        checks.push(check(module, check_module(harness.as_ref(), &folder, listed)));
    }
    let verified = checks.iter().all(|check| check.passed);
    let out = if args.json {
        json(&Document {
            verified,
            checks: &checks,
        })?
    } else {
        report(&name, &checks, verified)
    };
    Ok(Output {
        out,
        err: String::new(),
        exit: if verified { Exit::Allowed } else { Exit::Denied },
    })
}

fn check(what: &str, result: Result<String>) -> Check {
    let passed = result.is_ok();
    Check {
        what: what.to_owned(),
        passed,
        detail: result.unwrap_or_else(|error| format!("{error:#}")),
    }
}

fn signature(manifest: &Manifest, known: &Signers) -> Result<String> {
    Ok(format!("by {}", manifest.verify(known)?.join(", ")))
}

/// Checks the expiry, and describes the serial.
fn serial(manifest: &Manifest) -> Result<String> {
    manifest.check_expiry(SystemTime::now())?;
    let serial = match manifest.serial {
        0 => "none: an older manifest could replace it; `postern policy sign --renew` assigns one".to_owned(),
        serial => serial.to_string(),
    };
    Ok(match &manifest.not_after {
        Some(end) => format!("{serial}, until {end}"),
        None => serial,
    })
}

/// Checks a module as the host does before serving it.
fn check_module(harness: Option<&Harness>, folder: &Path, listed: &ListedModule) -> Result<String> {
    let wasm = read_pinned(folder, &listed.file, listed.digest)?;
    let cases = listed
        .cases
        .as_ref()
        .map(|ListedFile { file, digest }| read_pinned(folder, file, *digest));
    let cases = cases.transpose()?;
    let mut details = vec![format!("{} matches its digest", listed.file)];
    let Some(harness) = harness else {
        return Ok(details.remove(0));
    };
    let module = harness.compile(&wasm).with_context(|| listed.file.clone())?;
    let needs = module.required_capabilities();
    let missing: BTreeSet<_> = needs.difference(&listed.grants).copied().collect();
    if !missing.is_empty() {
        bail!(
            "{} needs {}, which the manifest does not allow",
            listed.file,
            names(&missing)
        );
    }
    details.push(format!("needs {}", names(&needs)));
    let granted = Grants {
        capabilities: listed.grants.clone(),
        hosts: Vec::new(),
    };
    match (&listed.cases, cases) {
        (Some(file), Some(text)) => {
            let text = String::from_utf8(text).with_context(|| format!("{} is not UTF-8 text", file.file))?;
            let passed =
                test::run_all(harness, &module, &granted, &text).with_context(|| file.file.clone())?;
            details.push(format!(
                "{} {}",
                counted(passed, "case", "cases"),
                if passed == 1 { "passes" } else { "pass" }
            ));
        }
        _ => details.push("has no cases".to_owned()),
    }
    Ok(details.join("; "))
}

fn read_pinned(folder: &Path, file: &str, digest: Digest) -> Result<Vec<u8>> {
    let bytes = std::fs::read(folder.join(file)).with_context(|| format!("cannot read {file}"))?;
    let found = Digest::of(&bytes);
    ensure!(found == digest, "{file} is {found}, but listed as {digest}");
    Ok(bytes)
}

fn names(capabilities: &BTreeSet<Capability>) -> String {
    if capabilities.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<_> = capabilities.iter().map(|capability| capability.name()).collect();
    names.join(", ")
}

fn report(name: &str, checks: &[Check], verified: bool) -> String {
    let style = Style::stdout();
    let width = checks
        .iter()
        .map(|check| check.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = format!("{}\n", style.bold(name));
    for Check { what, passed, detail } in checks {
        let mark = if *passed {
            style.success("ok")
        } else {
            style.error("no")
        };
        let line = format!("{what:<width$}  {detail}");
        text.push_str(&format!("  {mark}  {}\n", printable(&line)));
    }
    let bad = checks.iter().filter(|check| !check.passed).count();
    let summary = if verified {
        style.success("A host would accept it.")
    } else {
        style.error(&format!(
            "A host would not accept it: {}.",
            counted(bad, "failure", "failures")
        ))
    };
    format!("{text}\n{summary}\n")
}
