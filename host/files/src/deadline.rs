//! File operations with a deadline.
//!
//! The operating system has no such deadline: opening a file on a mount whose server is unreachable blocks. So each
//! operation runs on its own thread, which is abandoned if it blocks. The runtime's blocking threads are not used, because
//! a runtime waits for them on shutdown.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Maximum number of threads that may be blocked at the same time.
const MAX_BLOCKED: usize = 32;

/// The number of operations that missed their deadline and still run, by path.
static BLOCKED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

fn blocked() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    BLOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DeadlineError {
    /// The operation missed its deadline.
    #[error(
        "the file system did not respond within {0:?}: check that it is mounted and its server is reachable"
    )]
    TimedOut(Duration),
    /// An earlier operation on this path missed its deadline and still runs, or too many on other paths do.
    #[error(
        "an earlier file operation is still blocked: check that the file system is mounted and its server is reachable"
    )]
    Blocked,
    /// No thread could be created, or the operation panicked.
    #[error("the file operation could not be run")]
    Failed,
}

impl From<DeadlineError> for io::Error {
    fn from(error: DeadlineError) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// Whether an operation has ended, and whether it was counted as blocked before.
#[derive(Default)]
struct Progress {
    ended: bool,
    counted: bool,
}

/// Runs a file operation on its own thread, with a deadline. `path` identifies what it reads: after a missed deadline,
/// operations with the same path fail at once until the earlier one ends.
///
/// # Errors
/// If the operation misses the deadline, or an earlier one with this path still runs.
pub async fn with_deadline<T: Send + 'static>(
    path: &Path,
    deadline: Duration,
    operation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeadlineError> {
    {
        let blocked = blocked();
        if blocked.contains_key(path) || blocked.values().sum::<usize>() >= MAX_BLOCKED {
            return Err(DeadlineError::Blocked);
        }
    }
    let progress = Arc::new(Mutex::new(Progress::default()));
    let (sender, result) = oneshot::channel();
    let (shared, key) = (Arc::clone(&progress), path.to_owned());
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("postern-files".into())
        .spawn(move || {
            let _context = runtime.enter();
            let _guard = EndGuard {
                progress: shared,
                path: key,
            };
            let _ = sender.send(operation());
        })
        .map_err(|_| DeadlineError::Failed)?;
    match tokio::time::timeout(deadline, result).await {
        Ok(result) => result.map_err(|_| DeadlineError::Failed),
        Err(_) => {
            let mut blocked = blocked();
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if !progress.ended {
                progress.counted = true;
                *blocked.entry(path.to_owned()).or_default() += 1;
            }
            Err(DeadlineError::TimedOut(deadline))
        }
    }
}

/// Records the end of an operation, also when it panics.
struct EndGuard {
    progress: Arc<Mutex<Progress>>,
    path: PathBuf,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        // Locked in the same order as by the waiting task.
        let mut blocked = blocked();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.ended = true;
        if progress.counted
            && let Some(count) = blocked.get_mut(&self.path)
        {
            *count -= 1;
            if *count == 0 {
                blocked.remove(&self.path);
            }
        }
    }
}

/// Like [`crate::read`], with a deadline, as [`with_deadline`] of the file's directory.
///
/// # Errors
/// As for [`crate::read`], and [`io::ErrorKind::TimedOut`] for a missed deadline.
pub async fn read_with_deadline(path: &Path, max_len: u64, deadline: Duration) -> io::Result<Vec<u8>> {
    let directory = path.parent().unwrap_or(path).to_owned();
    let path = path.to_owned();
    with_deadline(&directory, deadline, move || crate::read(&path, max_len)).await?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_blocked_operation_fails_later_ones_on_its_path_only() {
        let deadline = Duration::from_millis(100);
        let (unblock, blocks) = mpsc::channel::<()>();
        let late = with_deadline(Path::new("/blocked"), deadline, move || blocks.recv()).await;
        assert_eq!(late, Err(DeadlineError::TimedOut(deadline)));

        let started = Instant::now();
        let again = with_deadline(Path::new("/blocked"), Duration::from_secs(60), || ()).await;
        assert_eq!(again, Err(DeadlineError::Blocked));
        assert_eq!(with_deadline(Path::new("/other"), deadline, || 1).await, Ok(1));
        assert!(started.elapsed() < Duration::from_secs(30), "at once");

        drop(unblock);
        while with_deadline(Path::new("/blocked"), deadline, || ())
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_does_not_block_the_path() {
        let path = Path::new("/panics");
        let failed = with_deadline(path, Duration::from_secs(9), || panic!("as a test")).await;
        assert_eq!(failed, Err::<(), _>(DeadlineError::Failed));
        assert_eq!(with_deadline(path, Duration::from_secs(9), || 1).await, Ok(1));
    }
}
