//! Watches files for changes.
//!
//! Directories are watched, never files: editors and deployments replace a file by renaming another over it, and a
//! mounted ConfigMap changes by swapping a symbolic link beside its files. Changes of other files in these directories,
//! such as logs, are ignored.

mod watched_files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use postern_files::{DeadlineError, with_deadline};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

pub use watched_files::WatchedFiles;

/// How long looking up the directories to watch may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Files may be written to all the time: changes are reported after this many quiet periods at the latest.
const MAX_QUIET_PERIODS: u32 = 10;

/// Watches files for changes.
#[derive(Debug)]
pub struct FileWatcher {
    directories: Arc<Mutex<Directories>>,
    changes: mpsc::Receiver<()>,
    changed: mpsc::Sender<()>,
    quiet_period: Duration,
}

/// The watched directories, each with or without its subdirectories.
#[derive(Debug)]
struct Directories {
    watcher: RecommendedWatcher,
    watched: BTreeSet<(PathBuf, bool)>,
    files: Arc<RwLock<WatchedFiles>>,
}

/// A directory that cannot be watched, and why.
pub type UnwatchedDirectory = (PathBuf, notify::Error);

impl FileWatcher {
    /// Creates a watcher without files. Changes are reported after `quiet_period` without further changes: deployments
    /// and editors write more than once.
    ///
    /// # Errors
    /// If the system has no watcher for this process.
    pub fn new(quiet_period: Duration) -> notify::Result<Self> {
        let (changed, changes) = mpsc::channel(1);
        let files = Arc::<RwLock<WatchedFiles>>::default();
        let (ours, notice) = (Arc::clone(&files), changed.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let ours = ours.read().unwrap_or_else(PoisonError::into_inner).clone();
            // After an error, changes may be missing. If the channel is full, a change is already pending.
            if event.map_or(true, |event| ours.is_change(&event)) {
                let _ = notice.try_send(());
            }
        })?;
        let directories = Directories {
            watcher,
            watched: BTreeSet::new(),
            files,
        };
        Ok(Self {
            directories: Arc::new(Mutex::new(directories)),
            changes,
            changed,
            quiet_period,
        })
    }

    /// A sender that triggers the report of a change with `try_send`.
    #[must_use]
    pub fn trigger(&self) -> mpsc::Sender<()> {
        self.changed.clone()
    }

    /// Watches these files and no others from now on. Directories are looked up again, even for files that are already
    /// watched: a directory may have been replaced. Returns the directories that cannot be watched.
    ///
    /// # Errors
    /// If the file system does not respond in time.
    pub async fn watch(
        &self,
        find: impl FnOnce() -> WatchedFiles + Send + 'static,
    ) -> Result<Vec<UnwatchedDirectory>, DeadlineError> {
        let directories = Arc::clone(&self.directories);
        with_deadline(Path::new("watched directories"), LOOKUP_TIMEOUT, move || {
            let files = find();
            let mut directories = directories.lock().unwrap_or_else(PoisonError::into_inner);
            directories.watch(files)
        })
        .await
    }

    /// Waits for a change, and for the quiet period after it.
    pub async fn changed(&mut self) {
        // Never closed: `self` holds a sender.
        let _ = self.changes.recv().await;
        let latest = Instant::now() + self.quiet_period * MAX_QUIET_PERIODS;
        let quiet = async { while timeout(self.quiet_period, self.changes.recv()).await.is_ok() {} };
        let _ = timeout_at(latest, quiet).await;
    }
}

impl Directories {
    fn watch(&mut self, files: WatchedFiles) -> Vec<UnwatchedDirectory> {
        let wanted = files.directories();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
        for (gone, _) in self.watched.difference(&wanted) {
            // A removed directory is no longer watched, which is not an error.
            let _ = self.watcher.unwatch(gone);
        }
        let mut failed = Vec::new();
        for (directory, below) in &wanted {
            let mode = if *below {
                RecursiveMode::Recursive
            } else {
                RecursiveMode::NonRecursive
            };
            if let Err(error) = self.watcher.watch(directory, mode) {
                failed.push((directory.clone(), error));
            }
        }
        self.watched = wanted;
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_reported_and_another_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let mut watcher = FileWatcher::new(Duration::from_millis(20)).unwrap();
        let file = root.join("a");
        let failed = watcher.watch(move || WatchedFiles::exactly([file])).await;
        assert!(failed.unwrap().is_empty());
        fs::write(root.join("b"), "").unwrap();
        let none = timeout(Duration::from_millis(200), watcher.changed()).await;
        assert!(none.is_err(), "it does not count");
        fs::rename(root.join("b"), root.join("a")).unwrap();
        timeout(Duration::from_secs(10), watcher.changed()).await.unwrap();
        watcher.trigger().try_send(()).unwrap();
        timeout(Duration::from_secs(10), watcher.changed()).await.unwrap();
    }
}
