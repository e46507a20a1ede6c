//! Testing again whenever something changes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notify::{Event, EventKind, RecursiveMode, Watcher as _};

use super::{Args, cases_file, once};
use crate::output::Output;
use crate::policy::harness::Harness;
use crate::style::Style;

/// An editor that saves writes more than once; so long must it be quiet.
const QUIET: Duration = Duration::from_millis(150);

/// Tests, and again after each change, until somebody stops it.
pub(super) fn run(harness: &Harness, args: &Args) -> Result<Output> {
    let files = Files::of(args)?;
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).context("cannot watch files")?;
    for (folder, mode) in files.folders() {
        watcher
            .watch(&folder, mode)
            .with_context(|| format!("cannot watch {}", folder.display()))?;
    }
    loop {
        let output = once(harness, args).unwrap_or_else(|error| Output::failure(&error));
        let _ = output.print();
        let waiting = format!(
            "\nWaiting for a change of {}; Ctrl-C ends.",
            args.target.display()
        );
        eprintln!("{}", Style::stderr().bold(&waiting));
        changed(&events, &files)?;
    }
}

/// The files that count.
#[derive(Debug)]
struct Files {
    /// The module, the manifest of the crate, the cases.
    single: Vec<PathBuf>,
    /// The crate's sources.
    sources: Option<PathBuf>,
}

impl Files {
    fn of(args: &Args) -> Result<Self> {
        let target = args.target.canonicalize();
        let target = target.with_context(|| format!("cannot read {}", args.target.display()))?;
        let cases = std::path::absolute(cases_file(args)?).context("the working directory is gone")?;
        // Events name files by the path that is watched.
        let cases = match (cases.parent().map(Path::canonicalize), cases.file_name()) {
            (Some(Ok(folder)), Some(name)) => folder.join(name),
            _ => cases,
        };
        Ok(if target.is_dir() {
            Self {
                single: vec![target.join("Cargo.toml"), cases],
                sources: Some(target.join("src")),
            }
        } else {
            Self {
                single: vec![target, cases],
                sources: None,
            }
        })
    }

    /// What to watch: the folders of single files, for many editors put a new file into an old one's place.
    fn folders(&self) -> Vec<(PathBuf, RecursiveMode)> {
        let mut folders: Vec<_> = self.single.iter().filter_map(|file| file.parent()).collect();
        folders.dedup();
        let folders = folders
            .into_iter()
            .map(|folder| (folder.to_owned(), RecursiveMode::NonRecursive));
        let sources = self
            .sources
            .iter()
            .map(|folder| (folder.clone(), RecursiveMode::Recursive));
        folders.chain(sources).collect()
    }

    fn concerns(&self, event: &Event) -> bool {
        let counts = |path: &PathBuf| {
            self.single.contains(path)
                || self
                    .sources
                    .as_ref()
                    .is_some_and(|sources| path.starts_with(sources))
        };
        !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(counts)
    }
}

/// Waits for a change, and for the quiet after it.
fn changed(events: &Receiver<notify::Result<Event>>, files: &Files) -> Result<()> {
    loop {
        let Ok(event) = events.recv() else {
            bail!("nobody watches the files any more");
        };
        if files.concerns(&event.context("cannot watch files")?) {
            break;
        }
    }
    while !matches!(
        events.recv_timeout(QUIET),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
    ) {}
    Ok(())
}
