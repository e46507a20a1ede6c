//! Updates the modules that a manifest lists.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use postern_policy::cases::Cases;
use postern_policy::{Digest, ListedFile, ListedModule, Manifest};

use super::{Args, capabilities};
use crate::policy::grants::usable;
use crate::policy::harness::Harness;
use crate::policy::test;

/// An argument of the form `[NAME=]VALUE`.
#[derive(Debug, Clone)]
pub(super) struct NamedValue {
    name: Option<String>,
    value: String,
}

pub(super) fn parse_named(text: &str) -> Result<NamedValue, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (Some(name.to_owned()), value),
        None => (None, text),
    };
    Ok(NamedValue {
        name,
        value: value.to_owned(),
    })
}

/// Parses `NAME=FILE`.
pub(super) fn parse_assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .map(|(name, file)| (name.to_owned(), file.to_owned()))
        .ok_or_else(|| "write NAME=MODULE.wasm, such as rbac=rbac.wasm".to_owned())
}

/// A module to add.
#[derive(Debug)]
pub(super) struct AddedModule {
    pub(super) name: String,
    file: PathBuf,
    grants: Option<String>,
    cases: Option<PathBuf>,
}

/// The requested changes.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) added: Vec<AddedModule>,
}

impl Changes {
    pub(super) fn of(args: &Args) -> Result<Self> {
        let mut added: Vec<AddedModule> = Vec::new();
        for (name, file) in &args.add {
            ensure!(
                !added.iter().any(|a| a.name == *name),
                "--add names `{name}` twice"
            );
            added.push(AddedModule {
                name: name.clone(),
                file: file.into(),
                grants: None,
                cases: None,
            });
        }
        for given in &args.grants {
            let module = module_for(&mut added, given, "--grants")?;
            ensure!(
                module.grants.is_none(),
                "--grants is given twice for `{}`",
                module.name
            );
            module.grants = Some(given.value.clone());
        }
        for given in &args.cases {
            let module = module_for(&mut added, given, "--cases")?;
            ensure!(
                module.cases.is_none(),
                "--cases is given twice for `{}`",
                module.name
            );
            module.cases = Some(given.value.clone().into());
        }
        Ok(Self { added })
    }
}

/// The added module that an option applies to.
fn module_for<'a>(
    added: &'a mut [AddedModule],
    given: &NamedValue,
    option: &str,
) -> Result<&'a mut AddedModule> {
    match (&given.name, added) {
        (None, [one]) => Ok(one),
        (None, _) => bail!("{option}: write NAME=… to name the added module that it applies to"),
        (Some(name), added) => added
            .iter_mut()
            .find(|module| module.name == *name)
            .with_context(|| format!("{option}: no module `{name}` is added")),
    }
}

/// Creates the manifest entry of an added module.
pub(super) fn list_module(
    harness: &Harness,
    added: &AddedModule,
    before: Option<&ListedModule>,
    folder: &Path,
) -> Result<ListedModule> {
    let module = harness.module(&added.file)?;
    let needs = module.required_capabilities();
    let grants = match (&added.grants, before) {
        (Some(given), _) => capabilities(given).with_context(|| format!("--grants of `{}`", added.name))?,
        // The earlier grants were a deliberate decision; a new build must not widen them.
        (None, Some(before)) => before.grants.clone(),
        (None, None) => usable(&module),
    };
    let missing: Vec<_> = needs
        .difference(&grants)
        .map(|capability| capability.name())
        .collect();
    ensure!(
        missing.is_empty(),
        "`{}` needs {} to be loaded, which the manifest would not allow: pass --grants to allow it",
        added.name,
        missing.join(", ")
    );
    let cases = match &added.cases {
        Some(file) => Some(file.clone()),
        None => test::cases_beside(&added.file),
    };
    let cases = cases.map(|file| -> Result<ListedFile> {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Cases::parse(&text).with_context(|| file.display().to_string())?;
        Ok(ListedFile {
            file: relative_to(folder, &file)?,
            digest: Digest::of(text.as_bytes()),
        })
    });
    Ok(ListedModule {
        file: relative_to(folder, &added.file)?,
        digest: module.digest(),
        grants,
        cases: cases.transpose()?,
    })
}

/// The path of a file relative to the manifest's folder.
fn relative_to(folder: &Path, file: &Path) -> Result<String> {
    let canonical = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))
    };
    let (folder, file) = (canonical(folder)?, canonical(file)?);
    let inside = file.strip_prefix(&folder).ok().and_then(Path::to_str);
    inside.map(str::to_owned).with_context(|| {
        format!(
            "{} must be inside the manifest's folder, {}: they are deployed together",
            file.display(),
            folder.display()
        )
    })
}

/// Compares the files with the listed digests; with `refresh`, updates the digests.
pub(super) fn check_digests(manifest: &mut Manifest, folder: &Path, refresh: bool) -> Result<()> {
    let mut differ = Vec::new();
    for listed in manifest.modules.values_mut() {
        let cases = listed
            .cases
            .as_mut()
            .map(|cases| (&cases.file, &mut cases.digest));
        for (file, digest) in [Some((&listed.file, &mut listed.digest)), cases]
            .into_iter()
            .flatten()
        {
            let path = folder.join(file);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let found = Digest::of(&bytes);
            if found != *digest && !refresh {
                differ.push(format!("  {file} is {found}, but listed as {digest}"));
            }
            *digest = found;
        }
    }
    ensure!(
        differ.is_empty(),
        "the files do not match the manifest:\n{}\nIf the files are correct, sign with --refresh",
        differ.join("\n")
    );
    Ok(())
}
