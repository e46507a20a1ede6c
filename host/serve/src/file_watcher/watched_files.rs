//! Selects the file events that are changes.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use notify::Event;
use notify::event::{AccessKind, AccessMode, EventKind};

/// The files to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedFiles {
    files: BTreeSet<PathBuf>,
    /// Directories that are watched with all their files, at any depth.
    directories_below: BTreeSet<PathBuf>,
    /// Whether to include symbolic links and directories on the way to the files.
    follow_links: bool,
}

impl WatchedFiles {
    /// Watches exactly these paths.
    pub fn exactly(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            files: files.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Watches these files by their given paths, by those that symbolic links lead to, and the links and directories on
    /// the way to them.
    pub fn with_links(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut files: BTreeSet<_> = files.into_iter().collect();
        let own: Vec<_> = files.iter().map(|file: &PathBuf| follow(file)).collect();
        files.extend(own);
        Self {
            files,
            follow_links: true,
            ..Self::default()
        }
    }

    /// Also watches all files below this directory.
    #[must_use]
    pub fn and_below(mut self, directory: PathBuf) -> Self {
        self.directories_below.insert(directory);
        self
    }

    /// The directories to watch, each with or without its subdirectories.
    pub(super) fn directories(&self) -> BTreeSet<(PathBuf, bool)> {
        let of_files = self.files.iter().flat_map(|file| watched_for(file));
        let of_trees = self
            .directories_below
            .iter()
            .map(|directory| (directory.clone(), true));
        // A directory that is watched recursively is not watched a second time.
        of_files
            .filter(|directory| !self.directories_below.contains(directory))
            .map(|directory| (directory, false))
            .chain(of_trees)
            .collect()
    }

    /// Whether an event is a change of these files.
    pub(super) fn is_change(&self, event: &Event) -> bool {
        let counts = |path: &PathBuf| {
            let other = |found: Metadata| !found.is_dir() && !found.is_symlink();
            self.files.contains(path)
                || self
                    .directories_below
                    .iter()
                    .any(|directory| path.starts_with(directory))
                || self.follow_links && !path.symlink_metadata().is_ok_and(other)
        };
        match event.kind {
            // Reading a file is not a change; the process itself does it after each change.
            EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write) => false,
            // Without paths, events were lost.
            _ => event.paths.is_empty() || event.paths.iter().any(counts),
        }
    }
}

/// The canonical path of a file. If it does not exist, the path at which it may yet be created: a file behind a symbolic
/// link can be deleted and written anew.
fn follow(file: &Path) -> PathBuf {
    /// As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut path = file.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(found) = path.canonicalize() {
            return found;
        }
        let Ok(target) = path.read_link() else { break };
        path.pop();
        path.push(target);
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(directory)), Some(name)) => directory.join(name),
        _ => path,
    }
}

/// The directories in which events show a change of this file: its own, and those of symbolic links on the way. If a
/// directory does not exist, its nearest existing ancestor.
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

    use super::*;

    #[test]
    fn links_on_the_way_are_watched_and_missing_directories_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        // Like a release directory, and like a mounted ConfigMap.
        fs::create_dir_all(root.join("releases/1/data")).unwrap();
        fs::write(root.join("releases/1/data/a.wasm"), "").unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        symlink("data/a.wasm", root.join("releases/1/a.wasm")).unwrap();
        let (named, own) = (root.join("current/a.wasm"), root.join("releases/1/data/a.wasm"));
        let watched = WatchedFiles::with_links([named.clone()]);
        assert_eq!(watched.files, [named.clone(), own.clone()].into());
        assert_eq!(watched_for(&named), [root.clone(), root.join("current")].into());
        assert_eq!(watched_for(&own), [root.join("releases/1/data")].into());
        assert_eq!(watched_for(&root.join("not/there/a.wasm")), [root.clone()].into());
    }

    #[test]
    fn a_link_is_followed_to_where_its_file_may_yet_be_created() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir(root.join("v2")).unwrap();
        symlink("v2", root.join("..data")).unwrap();
        symlink("..data/b.wasm", root.join("b.wasm")).unwrap();
        symlink("gone/b.wasm", root.join("c.wasm")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(follow(&root.join("b.wasm")), root.join("v2/b.wasm"));
        assert_eq!(follow(&root.join("c.wasm")), root.join("gone/b.wasm"));
        assert_eq!(follow(&root.join("none")), root.join("none"));
        assert_eq!(follow(&root.join("loop")), root.join("loop"));
        let watched = WatchedFiles::with_links([root.join("b.wasm")]);
        assert!(watched.directories().contains(&(root.join("v2"), false)));
    }

    #[test]
    fn other_files_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for name in ["a.wasm", "host.log"] {
            fs::write(root.join(name), "").unwrap();
        }
        symlink("a.wasm", root.join("..data")).unwrap();
        let ours = WatchedFiles::with_links([root.join("a.wasm"), root.join("a.cases.yaml")]);
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
            assert_eq!(ours.is_change(&event), expected, "{kind:?} {name}");
        }
        assert!(
            ours.is_change(&Event::new(EventKind::Other)),
            "some events were lost"
        );
        let exact = WatchedFiles::exactly([root.join("a.wasm")]).and_below(root.join("src"));
        for (name, expected) in [
            ("a.wasm", true),
            ("src/a/b.rs", true),
            ("..data", false),
            ("none", false),
        ] {
            let event = Event::new(written).add_path(root.join(name));
            assert_eq!(exact.is_change(&event), expected, "{name}");
        }
    }
}
