//! The registry of signers is read again when its file changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_files::with_deadline;

use crate::audited_signer::AuditedSigner;

/// How often the file is looked at: a signer that was retired signs no longer than this.
const INTERVAL: Duration = Duration::from_secs(1);

/// What differs between two states of a file, whether it was written, replaced, or a symbolic link to it was.
type Mark = (u64, u64, u64, [i64; 4]);

/// How long looking at it, or reading it, may take.
const LOOKING: Duration = Duration::from_secs(5);

/// Looks at the file again and again, and has it read when it changed.
pub(crate) async fn watch(signer: Arc<AuditedSigner>, path: PathBuf) {
    // It was read while the host started, which took its time: it is read again at once.
    let mut seen = None;
    loop {
        let (reader, file) = (Arc::clone(&signer), path.clone());
        let looked = with_deadline(&path, LOOKING, move || {
            let now = std::fs::metadata(&file).ok().map(|found| of(&found));
            // What is not there, or could not be read, is tried again each time, and told once.
            let same = now.is_some() && now == seen;
            if same || reader.reload() { now } else { None }
        });
        match looked.await {
            Ok(now) => seen = now,
            Err(error) => {
                signer.not_read(format!("{}: {error}", path.display()));
                seen = None;
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn of(found: &Metadata) -> Mark {
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
