//! Reloads the registry of signers when its file changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_files::with_deadline;

use crate::audited_signer::AuditedSigner;

/// How often the file is checked: a retired signer signs no longer than this.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Identifies the state of a file. It changes if the file is written or replaced, or a symbolic link to it changes.
type FileVersion = (u64, u64, u64, [i64; 4]);

/// How long checking or reading the file may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls the file, and reloads the registry when it has changed.
pub(crate) async fn watch(signer: Arc<AuditedSigner>, path: PathBuf) {
    // The registry was read while the host started, which takes a while, so it is read again at once.
    let mut last = None;
    loop {
        let (reader, file) = (Arc::clone(&signer), path.clone());
        let looked = with_deadline(&path, READ_TIMEOUT, move || {
            let now = std::fs::metadata(&file).ok().map(|found| version(&found));
            // A file that is missing or could not be read is retried each time, and reported once.
            let same = now.is_some() && now == last;
            if same || reader.reload() { now } else { None }
        });
        match looked.await {
            Ok(now) => last = now,
            Err(error) => {
                signer.report_registry_error(format!("{}: {error}", path.display()));
                last = None;
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn version(found: &Metadata) -> FileVersion {
    (
        found.dev(),
        found.ino(),
        found.len(),
        [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ],
    )
}
