//! File operations with a deadline.
//!
//! The system offers none: whoever opens a file on a mount whose server is gone waits for it. So each operation runs on
//! a thread of its own, which is left behind if it hangs. Not on the runtime's blocking threads: a runtime waits for
//! those when it ends.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Threads that may hang at the same time.
const MAX_HANGING: usize = 32;

/// The places with an operation that missed its deadline and still runs, and how many.
static HANGING: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

fn hanging() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    HANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DeadlineError {
    /// It took too long.
    #[error("no answer of the file system within {0:?}: is it mounted, and does its server answer?")]
    TimedOut(Duration),
    /// An earlier operation at this place took too long, and has not ended.
    #[error("an earlier operation there still hangs: is it mounted, and does its server answer?")]
    Blocked,
    /// The system gives no thread, or the operation panicked.
    #[error("the operation could not be run")]
    Failed,
}

impl From<DeadlineError> for io::Error {
    fn from(stalled: DeadlineError) -> Self {
        Self::new(io::ErrorKind::TimedOut, stalled)
    }
}

/// Whether an operation has ended, and whether it was counted as hanging before.
#[derive(Default)]
struct Progress {
    ended: bool,
    counted: bool,
}

/// Runs file operations at a place, and waits for them no longer than `limit`. What hangs at a place is waited for once:
/// until it ends, other operations at the same place are refused at once.
///
/// # Errors
/// If they do not end in time, or earlier ones there have not ended.
pub async fn with_deadline<T: Send + 'static>(
    place: &Path,
    limit: Duration,
    operation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeadlineError> {
    {
        let hanging = hanging();
        if hanging.contains_key(place) || hanging.values().sum::<usize>() >= MAX_HANGING {
            return Err(DeadlineError::Blocked);
        }
    }
    let progress = Arc::new(Mutex::new(Progress::default()));
    let (sender, result) = oneshot::channel();
    let (ours, at) = (Arc::clone(&progress), place.to_owned());
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("postern-files".into())
        .spawn(move || {
            let _inside = runtime.enter();
            let _ended = EndGuard { progress: ours, at };
            let _ = sender.send(operation());
        })
        .map_err(|_| DeadlineError::Failed)?;
    match tokio::time::timeout(limit, result).await {
        Ok(result) => result.map_err(|_| DeadlineError::Failed),
        Err(_) => {
            let mut hanging = hanging();
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if !progress.ended {
                progress.counted = true;
                *hanging.entry(place.to_owned()).or_default() += 1;
            }
            Err(DeadlineError::TimedOut(limit))
        }
    }
}

/// Takes note of the end of an operation, however it ends.
struct EndGuard {
    progress: Arc<Mutex<Progress>>,
    at: PathBuf,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        // In the order in which whoever waits locks them.
        let mut hanging = hanging();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.ended = true;
        if progress.counted
            && let Some(count) = hanging.get_mut(&self.at)
        {
            *count -= 1;
            if *count == 0 {
                hanging.remove(&self.at);
            }
        }
    }
}

/// As [`crate::read`], with a deadline. The place is the file's directory.
///
/// # Errors
/// As [`crate::read`], and [`io::ErrorKind::TimedOut`] past the deadline.
pub async fn read_with_deadline(path: &Path, max_len: u64, limit: Duration) -> io::Result<Vec<u8>> {
    let place = path.parent().unwrap_or(path).to_owned();
    let path = path.to_owned();
    with_deadline(&place, limit, move || crate::read(&path, max_len)).await?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_waited_for_once_and_harms_no_other_place() {
        let limit = Duration::from_millis(100);
        let (end, hangs) = mpsc::channel::<()>();
        let late = with_deadline(Path::new("/hangs"), limit, move || hangs.recv()).await;
        assert_eq!(late, Err(DeadlineError::TimedOut(limit)));

        let started = Instant::now();
        let again = with_deadline(Path::new("/hangs"), Duration::from_secs(60), || ()).await;
        assert_eq!(again, Err(DeadlineError::Blocked));
        assert_eq!(with_deadline(Path::new("/well"), limit, || 1).await, Ok(1));
        assert!(started.elapsed() < Duration::from_secs(30), "at once");

        drop(end);
        while with_deadline(Path::new("/hangs"), limit, || ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_leaves_nothing_behind() {
        let place = Path::new("/panics");
        let failed = with_deadline(place, Duration::from_secs(9), || panic!("as a test")).await;
        assert_eq!(failed, Err::<(), _>(DeadlineError::Failed));
        assert_eq!(with_deadline(place, Duration::from_secs(9), || 1).await, Ok(1));
    }
}
