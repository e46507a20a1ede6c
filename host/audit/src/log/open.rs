//! Opening a store: it must be the log that the checkpoints cover.

use std::collections::BTreeSet;
use std::path::Path;

use crate::checkpoint_file::{self, CheckpointFile, FileFault};
use crate::store::{self, Backend};
use crate::{Checkpoint, Head, OpenError, Settings, Store};

/// An opened store.
pub(super) struct Opened {
    pub(super) backend: Backend,
    pub(super) head: Head,
    /// The last checkpoint of the store, or else of the external file.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What is wrong with the external checkpoint file.
    pub(super) fault: Option<FileFault>,
}

/// Opens the store and the external checkpoint file, and compares the end of the log with all checkpoints.
pub(super) async fn open(settings: &Settings) -> Result<Opened, OpenError> {
    let external = match &settings.checkpoints.file {
        Some(path) => Some((
            path.as_path(),
            checkpoint_file::read(path, &settings.origin).await?,
        )),
        None => None,
    };
    let mut backend = store::open(&settings.store).await?;
    match compare(&mut backend, settings, external).await {
        Ok((head, checkpoint, fault)) => Ok(Opened {
            backend,
            head,
            checkpoint,
            fault,
        }),
        Err(error) => {
            backend.disconnect().await;
            Err(error)
        }
    }
}

/// Returns the head of a store that agrees with the stored and the external checkpoints, the last of them, and what is
/// wrong with the external file.
async fn compare(
    backend: &mut Backend,
    settings: &Settings,
    external: Option<(&Path, CheckpointFile)>,
) -> Result<(Head, Option<Checkpoint>, Option<FileFault>), OpenError> {
    // In this order: other hosts append meanwhile, and a checkpoint covers only events that are there before it.
    let stored = backend.last_checkpoint().await?;
    let head = backend.verified_head().await?;
    if let Some(other) = stored
        .as_ref()
        .filter(|checkpoint| checkpoint.origin != settings.origin)
    {
        return Err(OpenError::OriginMismatch {
            stored: other.origin.clone(),
            wanted: settings.origin.clone(),
        });
    }
    if let Some((path, file)) = &external {
        backend
            .check_covered(&file.all, head, &path.display().to_string())
            .await?;
    }
    if let Some(checkpoint) = &stored {
        let one = BTreeSet::from([(checkpoint.size, checkpoint.hash)]);
        backend
            .check_covered(&one, head, "its own table audit_checkpoints")
            .await?;
    }
    let shared = matches!(settings.store, Store::Postgres(_));
    let fault = external
        .as_ref()
        .and_then(|(path, file)| file.fault(path, stored.as_ref(), shared));
    let last = external.and_then(|(_, CheckpointFile { last, .. })| last);
    Ok((head, stored.or(last), fault))
}
