//! Loads policies when their files change.
//!
//! Directories are watched, never files: editors and deployments replace a file by renaming another over it, and a
//! mounted ConfigMap changes by a symbolic link beside the files being swapped. What happens there to other files, a
//! log perhaps, is nobody's concern.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use postern_files::with_deadline;
use postern_policy::{Manifest, Settings, Source};
use tokio::sync::mpsc;

use crate::loader::Loader;

/// A deployment writes several files; it is waited for until none changes for this long.
const QUIET: Duration = Duration::from_millis(200);
/// And no longer than for so many changes: something else may write to the directory all the time.
const ROUNDS: usize = 10;

/// How long finding the directories to watch may take.
const FOLLOWING: Duration = Duration::from_secs(5);
/// The largest manifest, in bytes.
const MANIFEST: u64 = 16 << 20;

/// Watches the files of the loader's settings.
#[derive(Debug)]
pub(crate) struct Watch {
    directories: Arc<Mutex<Directories>>,
    changes: mpsc::Receiver<()>,
}

/// The directories that are watched.
#[derive(Debug)]
struct Directories {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// What policies are made from.
    files: Arc<RwLock<BTreeSet<PathBuf>>>,
}

impl Watch {
    /// Begins to watch. Whoever holds the sender can have it loaded and the watched directories found anew.
    pub(crate) async fn start(settings: &Settings) -> notify::Result<(Self, mpsc::Sender<()>)> {
        let (sender, changes) = mpsc::channel(1);
        let told = sender.clone();
        let files = Arc::<RwLock<BTreeSet<PathBuf>>>::default();
        let ours = Arc::clone(&files);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let ours = ours.read().unwrap_or_else(PoisonError::into_inner).clone();
            // A full channel already tells all that there is to tell.
            if event.is_ok_and(|event| is_change(&event, &ours)) {
                let _ = told.try_send(());
            }
        })?;
        let directories = Directories {
            watcher,
            watched: BTreeSet::new(),
            files,
        };
        let watch = Self {
            directories: Arc::new(Mutex::new(directories)),
            changes,
        };
        watch.follow(settings.clone()).await;
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
            self.follow(loader.settings()).await;
        }
    }

    /// Watches the directories of the settings' files, as they are now.
    async fn follow(&self, settings: Settings) {
        let directories = Arc::clone(&self.directories);
        let followed = with_deadline(Path::new("watched directories"), FOLLOWING, move || {
            let mut directories = directories.lock().unwrap_or_else(PoisonError::into_inner);
            directories.follow(&settings);
        });
        if let Err(error) = followed.await {
            tracing::warn!(%error, "directories not watched: changes may need a reload");
        }
    }
}

impl Directories {
    fn follow(&mut self, settings: &Settings) {
        let files = files(settings);
        let wanted: BTreeSet<_> = files.iter().flat_map(|file| watched_for(file)).collect();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
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

/// Whether something happened to our files, or to links and directories on the way to them.
fn is_change(event: &Event, ours: &BTreeSet<PathBuf>) -> bool {
    let concerns_us = |path: &PathBuf| {
        let other = |found: Metadata| !found.is_dir() && !found.is_symlink();
        ours.contains(path) || !path.symlink_metadata().is_ok_and(other)
    };
    match event.kind {
        // Reading a file is no change of it; we do it ourselves.
        EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write) => false,
        _ => event.paths.is_empty() || event.paths.iter().any(concerns_us),
    }
}

/// The files that policies are made from, by the names that settings give them and by their own.
fn files(settings: &Settings) -> BTreeSet<PathBuf> {
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
        let listed = postern_files::read(&manifest, MANIFEST)
            .ok()
            .and_then(|text| Manifest::parse(&text).ok());
        for module in listed.iter().flat_map(|manifest| manifest.modules.values()) {
            files.insert(directory.join(&module.file));
            files.extend(module.cases.as_ref().map(|cases| directory.join(&cases.file)));
        }
        files.insert(manifest);
    }
    let own: Vec<_> = files
        .iter()
        .filter_map(|file: &PathBuf| file.canonicalize().ok())
        .collect();
    files.extend(own);
    files
}

/// Where something changes when a file does: its directory, and those of the links on the way. A directory that is not
/// there is waited for in the nearest one that is.
fn watched_for(file: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    directories.extend(
        file.ancestors()
            .skip(1)
            .find(|ancestor| ancestor.is_dir())
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

    use notify::event::{CreateKind, ModifyKind};
    use postern_policy::{EntrySettings, Grants, Limits};

    use super::*;

    fn settings(directory: &Path, module: &str) -> Settings {
        let entry = EntrySettings {
            source: Source::File {
                module: module.into(),
                digest: None,
                cases: Some("a.cases.yaml".into()),
            },
            grants: Grants::default(),
            config: serde_json::json!({}),
            limits: Limits::default(),
        };
        Settings {
            directory: directory.to_owned(),
            entries: [("a".to_owned(), entry)].into(),
            ..Settings::default()
        }
    }

    #[test]
    fn links_on_the_way_are_watched_and_missing_directories_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        // As a release directory, and as a mounted ConfigMap.
        fs::create_dir_all(root.join("releases/1/data")).unwrap();
        fs::write(root.join("releases/1/data/a.wasm"), "").unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        symlink("data/a.wasm", root.join("releases/1/a.wasm")).unwrap();
        let files = files(&settings(&root, "current/a.wasm"));
        let (named, own) = (root.join("current/a.wasm"), root.join("releases/1/data/a.wasm"));
        assert_eq!(
            files,
            [root.join("a.cases.yaml"), named.clone(), own.clone()].into()
        );
        assert_eq!(watched_for(&named), [root.clone(), root.join("current")].into());
        assert_eq!(watched_for(&own), [root.join("releases/1/data")].into());
        assert_eq!(watched_for(&root.join("not/there/a.wasm")), [root.clone()].into());
    }

    #[test]
    fn other_files_do_not_concern_us() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for name in ["a.wasm", "host.log"] {
            fs::write(root.join(name), "").unwrap();
        }
        symlink("a.wasm", root.join("..data")).unwrap();
        let ours = files(&settings(&root, "a.wasm"));
        let written = EventKind::Modify(ModifyKind::Any);
        for (kind, name, expected) in [
            (written, "a.wasm", true),
            (written, "a.cases.yaml", true),
            (written, "host.log", false),
            (EventKind::Create(CreateKind::Any), "..data", true),
            (
                EventKind::Access(AccessKind::Close(AccessMode::Write)),
                "a.wasm",
                true,
            ),
            (
                EventKind::Access(AccessKind::Close(AccessMode::Read)),
                "a.wasm",
                false,
            ),
            (
                EventKind::Access(AccessKind::Open(AccessMode::Any)),
                "a.wasm",
                false,
            ),
        ] {
            let event = Event::new(kind).add_path(root.join(name));
            assert_eq!(is_change(&event, &ours), expected, "{kind:?} {name}");
        }
        assert!(
            is_change(&Event::new(EventKind::Other), &ours),
            "some events were lost"
        );
    }
}
