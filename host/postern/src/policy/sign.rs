//! `postern policy sign`: updates and signs a manifest of modules.

mod list;
mod write;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use ed25519_compact::KeyPair;
use postern_policy::Manifest;

use super::harness::Harness;
use super::{grants, signers};
use crate::output::{Exit, Output};
use crate::style::Style;
use crate::text::{counted, printable};
use list::{Changes, NamedValue};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy sign manifest.json --key ann.pem --signer ann --add rbac=rbac.wasm --add tenant=tenant.wasm\n  \
    postern policy sign manifest.json --key ann.pem --signer ann --add rbac=rbac.wasm --grants config,log \\\n    \
    --cases rbac.cases.yaml\n  \
    postern policy sign manifest.json --key ann.pem --signer ann --refresh    after the files changed\n  \
    postern policy sign manifest.json --key ann.pem --signer ann --renew      to go back to an older one\n\n\
    The manifest lists what a host may run: each module with its digest, the capabilities that settings may grant it, and \
    the cases that it must pass. Paths are relative to the manifest's folder. A manifest is not signed if its files do not \
    match. A change removes the signatures of all other signers, who must sign again.")]
pub(crate) struct Args {
    /// The manifest; created if it does not exist
    #[arg(value_name = "MANIFEST.json")]
    manifest: PathBuf,
    /// The signer's private key (Ed25519, PEM)
    #[arg(long, value_name = "FILE.pem")]
    key: PathBuf,
    /// The name of the key in the host's settings
    #[arg(long, value_name = "NAME")]
    signer: String,
    /// Add a module, or update its entry; repeatable
    #[arg(long, value_name = "NAME=MODULE.wasm", value_parser = list::parse_assignment)]
    add: Vec<(String, String)>,
    /// The capabilities that settings may grant an added module; by default all that it can use. NAME= is required if
    /// several modules are added
    #[arg(long, value_name = "[NAME=]CAPABILITY,…", value_parser = list::parse_named)]
    grants: Vec<NamedValue>,
    /// The cases of an added module; by default those beside it. NAME= is required if several modules are added
    #[arg(long, value_name = "[NAME=]FILE", value_parser = list::parse_named)]
    cases: Vec<NamedValue>,
    /// Remove a module; repeatable
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Update the digests to the current contents of the listed files
    #[arg(long)]
    refresh: bool,
    /// The expiry, from which hosts load nothing by this manifest; unchanged by default
    #[arg(long, value_name = "2027-01-31T00:00:00Z", value_parser = time)]
    not_after: Option<String>,
    /// Assign a new serial even without a change, so that hosts that have loaded a later manifest accept this one again
    #[arg(long)]
    renew: bool,
}

fn time(text: &str) -> Result<String, String> {
    let time =
        humantime::parse_rfc3339(text).map_err(|_| "write a time as 2027-01-31T00:00:00Z".to_owned())?;
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

/// The serial of a changed manifest: the Unix time in milliseconds, and higher than the serial before.
fn serial(before: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
        .max(before.saturating_add(1))
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    ensure!(!args.signer.is_empty(), "--signer must not be empty");
    let key = key(&args.key)?;
    let mut manifest = read_or_create(&args.manifest)?;
    let before = manifest.modules.clone();
    let folder = folder(&args.manifest);
    let changes = Changes::of(args)?;
    for name in &args.remove {
        ensure!(
            manifest.modules.remove(name).is_some(),
            "the manifest lists no module `{name}`"
        );
    }
    let harness = Harness::new(1)?;
    let mut warnings = Vec::new();
    for added in &changes.added {
        let listed = list::list_module(&harness, added, manifest.modules.get(&added.name), &folder)?;
        if listed.cases.is_none() {
            warnings.push(format!(
                "`{}` has no cases: a host loads it untested",
                printable(&added.name)
            ));
        }
        manifest.modules.insert(added.name.clone(), listed);
    }
    list::check_digests(&mut manifest, &folder, args.refresh)?;
    ensure!(
        !manifest.modules.is_empty(),
        "the manifest would list no module: add one with --add NAME=MODULE.wasm"
    );

    let not_after = args.not_after.clone().or_else(|| manifest.not_after.clone());
    let changed = manifest.modules != before || manifest.not_after != not_after;
    manifest.not_after = not_after;
    manifest.check_expiry(SystemTime::now())?;
    let ended = if !changed && !args.renew && manifest.serial > 0 {
        Vec::new()
    } else {
        manifest.serial = serial(manifest.serial);
        let ended = std::mem::take(&mut manifest.signatures)
            .into_iter()
            .map(|signature| signature.signer);
        ended.filter(|signer| *signer != args.signer).collect()
    };
    if !ended.is_empty() {
        warnings.push(format!(
            "must sign again, since the manifest changed: {}",
            printable(&ended.join(", "))
        ));
    }
    manifest.sign(&args.signer, &key.sk)?;
    write::replace(&args.manifest, &crate::output::json(&manifest)?)?;
    Ok(report(args, &manifest, &key, &warnings))
}

fn report(args: &Args, manifest: &Manifest, key: &KeyPair, warnings: &[String]) -> Output {
    let style = Style::stdout();
    let end = match &manifest.not_after {
        Some(end) => format!(", until {}", printable(end)),
        None => String::new(),
    };
    let mut out = format!(
        "{}\n  signed by {} ({})\n  serial {}{end}\n  {}\n",
        style.bold(&args.manifest.display().to_string()),
        printable(&args.signer),
        signers::format_key(&key.pk),
        manifest.serial,
        counted(manifest.modules.len(), "module", "modules")
    );
    for (name, listed) in &manifest.modules {
        let grants: Vec<_> = listed.grants.iter().map(|grant| grant.name()).collect();
        let grants = if grants.is_empty() {
            "nothing".to_owned()
        } else {
            grants.join(", ")
        };
        let line = format!("{name:<12} {}  may be granted {grants}", listed.digest);
        out.push_str(&format!("    {}\n", printable(&line)));
    }
    let head = Style::stderr().warning("warning:");
    let err = warnings
        .iter()
        .map(|warning| format!("{head} {warning}\n"))
        .collect();
    Output {
        out,
        err,
        exit: Exit::Allowed,
    }
}

/// Reads the private key. Errors do not contain the file's text.
fn key(file: &Path) -> Result<KeyPair> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    KeyPair::from_pem(&text).map_err(|_| {
        anyhow!(
            "{} is not a private Ed25519 key in PEM: generate one with `postern policy keygen`, or `openssl genpkey \
             -algorithm ed25519`",
            file.display()
        )
    })
}

fn read_or_create(file: &Path) -> Result<Manifest> {
    match std::fs::read(file) {
        Ok(text) => Manifest::parse(&text).with_context(|| file.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Manifest {
            version: 1,
            serial: 0,
            not_after: None,
            modules: Default::default(),
            signatures: Vec::new(),
        }),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The folder of a file; `.` if the path has none.
pub(super) fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Parses a list of capabilities, such as `config,log`.
fn capabilities(text: &str) -> Result<std::collections::BTreeSet<postern_policy::Capability>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| grants::capability(name).map_err(anyhow::Error::msg))
        .collect()
}
