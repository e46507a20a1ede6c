//! The registry of signers is read again when its file changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::notary::Notary;

/// How often the file is looked at: a signer that was retired signs no longer than this.
const INTERVAL: Duration = Duration::from_secs(1);

/// What differs between two states of a file, whether it was written, replaced, or a symbolic link to it was.
type Mark = (u64, u64, u64, [i64; 4]);

/// Looks at the file again and again, and has it read when it changed.
pub(crate) async fn watch(notary: Arc<Notary>, path: PathBuf) {
    let mark = || std::fs::metadata(&path).ok().map(|found| of(&found));
    // It was read while the host started, which took its time: it is read again at once.
    let mut seen = None;
    loop {
        let now = mark();
        // What could not be read is tried again each time, and told once.
        if now.is_some() && now != seen && notary.reload() {
            seen = now;
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
