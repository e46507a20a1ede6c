//! Runs the tests again after each change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postern_serve::{FileWatcher, WatchedFiles};

use super::{Args, cases_file, once};
use crate::output::Output;
use crate::policy::harness::Harness;
use crate::style::Style;

/// Editors write several times when they save, so tests run only after this time without a change.
const QUIET: Duration = Duration::from_millis(150);

/// Runs the tests, and again after each change, until the process is stopped.
pub(super) fn run(harness: &Harness, args: &Args) -> Result<Output> {
    let files = files(args)?;
    let mut watcher = FileWatcher::new(QUIET).context("cannot watch files")?;
    let unwatched = harness
        .runtime
        .block_on(watcher.watch(move || files))
        .context("cannot watch files")?;
    if let Some((folder, error)) = unwatched.into_iter().next() {
        bail!("cannot watch {}: {error}", folder.display());
    }
    loop {
        let output = once(harness, args).unwrap_or_else(|error| Output::failure(&error));
        let _ = output.print();
        let waiting = format!(
            "\nWaiting for a change of {}; stop with Ctrl-C.",
            args.target.display()
        );
        eprintln!("{}", Style::stderr().bold(&waiting));
        harness.runtime.block_on(watcher.changed());
    }
}

/// The files to watch: the module and its cases; for a crate its manifest, its sources and the cases.
fn files(args: &Args) -> Result<WatchedFiles> {
    let target = args.target.canonicalize();
    let target = target.with_context(|| format!("cannot read {}", args.target.display()))?;
    let cases = std::path::absolute(cases_file(args)?).context("the working directory is gone")?;
    // Events name files by the path that is watched.
    let cases = match (cases.parent().map(Path::canonicalize), cases.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => cases,
    };
    Ok(if target.is_dir() {
        WatchedFiles::exactly([target.join("Cargo.toml"), cases]).and_below(target.join("src"))
    } else {
        WatchedFiles::exactly([target, cases])
    })
}
