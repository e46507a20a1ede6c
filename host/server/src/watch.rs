//! Loads policies when their files change.
//!
//! Directories are watched, never files: editors and deployments replace a file by renaming another over it, and a
//! mounted ConfigMap changes by a symbolic link beside the files being swapped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use postern_policy::{Manifest, Settings, Source};
use tokio::sync::mpsc;

use crate::loader::Loader;

/// A deployment writes several files; it is waited for until none changes for this long.
const QUIET: Duration = Duration::from_millis(200);
/// And no longer than for so many changes: something else may write to the directory all the time.
const ROUNDS: usize = 10;

/// Watches the files of the loader's settings.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Begins to watch. Whoever holds the sender can have it loaded and the watched directories found anew.
    pub(crate) fn start(settings: &Settings) -> notify::Result<(Self, mpsc::Sender<()>)> {
        let (sender, changes) = mpsc::channel(1);
        let told = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A full channel already tells all that there is to tell.
            if event.is_ok_and(|event| is_change(&event)) {
                let _ = told.try_send(());
            }
        })?;
        let mut watch = Self {
            watcher,
            watched: BTreeSet::new(),
            changes,
        };
        watch.follow(settings);
        Ok((watch, sender))
    }

    /// Loads after each change, for as long as it is polled.
    pub(crate) async fn run(mut self, loader: Arc<Loader>) {
        while self.changes.recv().await.is_some() {
            for _ in 0..ROUNDS {
                if tokio::time::timeout(QUIET, self.changes.recv()).await.is_err() {
                    break;
                }
            }
            loader.load("files changed").await;
            self.follow(&loader.settings());
        }
    }

    /// Watches the directories of the settings' files, as they are now.
    fn follow(&mut self, settings: &Settings) {
        let wanted = directories(settings);
        for gone in self.watched.difference(&wanted) {
            // One that was removed is not watched any more, which is no error.
            let _ = self.watcher.unwatch(gone);
        }
        for directory in &wanted {
            // Also those that are watched already: another directory may have taken the place of one.
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %directory.display(), %error, "not watched: changes there need a reload");
            }
        }
        self.watched = wanted;
    }
}

/// Reading a file is no change of it; we do it ourselves.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn directories(settings: &Settings) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in settings.entries.values() {
        if let Source::File { module, cases, .. } = &entry.source {
            files.insert(settings.directory.join(module));
            files.extend(cases.as_ref().map(|cases| settings.directory.join(cases)));
        }
    }
    if let Some(manifest) = &settings.manifest {
        let manifest = settings.directory.join(manifest);
        let directory = manifest.parent().unwrap_or(&settings.directory).to_owned();
        // Unverified: it only says where to look for changes.
        let listed = std::fs::read(&manifest)
            .ok()
            .and_then(|text| Manifest::parse(&text).ok());
        for module in listed.iter().flat_map(|manifest| manifest.modules.values()) {
            files.insert(directory.join(&module.file));
            files.extend(module.cases.as_ref().map(|cases| directory.join(&cases.file)));
        }
        files.insert(manifest);
    }
    files.iter().flat_map(|file| watched_for(file)).collect()
}

/// Where something changes when a file does: its directory, that of the file it is a link to, and those of the links
/// on the way. A directory that is not there is waited for in the nearest one that is.
fn watched_for(file: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let target = file.canonicalize().ok();
    let own = [Some(file), target.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(Path::parent);
    directories.extend(
        own.filter_map(|directory| directory.ancestors().find(|d| d.is_dir()))
            .map(Path::to_owned),
    );
    for link in file.ancestors().skip(1).filter(|ancestor| ancestor.is_symlink()) {
        directories.extend(link.parent().map(Path::to_owned));
    }
    directories
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_on_the_way_are_watched_and_missing_directories_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        // As a release directory, and as a mounted ConfigMap.
        fs::create_dir_all(root.join("releases/1/data")).unwrap();
        fs::write(root.join("releases/1/data/a.wasm"), "").unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        symlink("data/a.wasm", root.join("releases/1/a.wasm")).unwrap();
        let expected = [root.clone(), root.join("current"), root.join("releases/1/data")];
        assert_eq!(watched_for(&root.join("current/a.wasm")), expected.into());
        assert_eq!(watched_for(&root.join("not/there/a.wasm")), [root.clone()].into());
    }
}
