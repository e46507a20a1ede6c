//! Copies a log into an empty store, for backup and restore.
//!
//! A log only grows, so a copy up to the event that was the last when it began is consistent, however long it takes and
//! whatever is appended meanwhile. Nothing is verified here: [`crate::verify`] the copy.

use std::collections::HashMap;

use uuid::Uuid;

use crate::read::{ReadError, Reader};
use crate::store::{self, Backend};
use crate::verify::{ManifestRow, Progress};
use crate::{
    Decision, Event, Hash, Head, Kind, ManifestSignature, OpenError, Record, Store, StoreError, Time, link,
};

/// The number of events copied in one transaction.
const CHUNK: u64 = 4096;

/// Copying a log failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The target store cannot be written.
    #[error("the target store: {0}")]
    Write(#[from] StoreError),
    /// The target store already has a log.
    #[error("the store already has a log: a copy can only be written to an empty store")]
    NotEmpty,
    /// A row of `manifest_signatures` is malformed.
    #[error("a row of manifest_signatures cannot be read: run `postern audit verify`")]
    InvalidManifestRow,
}

/// Copies all of a log into an empty store, and returns the last event. Calls `on_progress` after each chunk.
///
/// # Errors
/// If the log cannot be read, or the store is not empty or cannot be written.
pub async fn copy(
    reader: &Reader,
    target: &Store,
    on_progress: impl FnMut(Progress),
) -> Result<Head, CopyError> {
    let mut backend = store::open(target).await?;
    let copied = fill(reader, &mut backend, on_progress).await;
    backend.close().await;
    copied
}

/// Appends an event recording that a log continues from a restored copy.
///
/// # Errors
/// If the store cannot be written.
pub async fn record_restored(target: &Store, host: &str, from: &Head, now: Time) -> Result<Head, CopyError> {
    let mut backend = store::open(target).await?;
    let recorded = append(&mut backend, restored_event(host, from, now), now).await;
    backend.close().await;
    recorded
}

fn restored_event(host: &str, from: &Head, now: Time) -> Event {
    let mut event = Event::of_host(Kind::Host, host, now);
    event.decision = Some(Decision::Allowed);
    event.reason = Some("audit_restored".into());
    event.detail.insert("size".into(), from.size.into());
    event.detail.insert("hash".into(), from.hash.to_string().into());
    event
}

async fn append(backend: &mut Backend, event: Event, now: Time) -> Result<Head, CopyError> {
    let head = backend.begin().await?;
    let linked = link::link(head, now, [event].iter(), HashMap::new());
    backend.insert(linked.entries).await?;
    backend.commit().await?;
    Ok(linked.head)
}

async fn fill(
    reader: &Reader,
    backend: &mut Backend,
    mut on_progress: impl FnMut(Progress),
) -> Result<Head, CopyError> {
    if backend.verified_head().await? != Head::EMPTY || backend.last_checkpoint().await?.is_some() {
        return Err(CopyError::NotEmpty);
    }
    let total = reader.extent().await?.map_or(0, |extent| extent.last);
    let mut manifest_events = HashMap::new();
    for first in (1..=total).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let last = total.min(first + CHUNK - 1);
        let entries: Vec<_> = reader
            .between(first, last)
            .await?
            .into_iter()
            .map(|event| event.entry)
            .collect();
        for entry in &entries {
            // A cheap filter. It may match other kinds of events too: only those with a row in the table are used below.
            if entry.payload.contains("manifest_signature")
                && let Ok(record) = serde_json::from_str::<Record>(&entry.payload)
            {
                manifest_events.insert(entry.id, record.event);
            }
        }
        let from = if first == 1 {
            i64::MIN
        } else {
            i64::try_from(first).unwrap_or(i64::MAX)
        };
        let notes = reader.notes(from, last).await?;
        backend.begin().await?;
        backend.insert(entries).await?;
        for note in notes {
            backend.insert_checkpoint(note.size, &note.text).await?;
        }
        backend.commit().await?;
        on_progress(Progress { done: last, total });
    }
    copy_manifests(reader, backend, &manifest_events).await?;
    reader.check_unchanged()?;
    Ok(backend.verified_head().await?)
}

/// Copies the manifest signatures that the copied events record. Others belong to later events.
async fn copy_manifests(
    reader: &Reader,
    backend: &mut Backend,
    events: &HashMap<Uuid, Event>,
) -> Result<(), CopyError> {
    let mut rows = Vec::new();
    reader
        .manifests(u64::MAX, |row| {
            let id = Uuid::from_slice(&row.id).map_err(|_| CopyError::InvalidManifestRow)?;
            if let Some(event) = events.get(&id) {
                rows.push((event, parse_signature(row).ok_or(CopyError::InvalidManifestRow)?));
            }
            Ok::<_, CopyError>(())
        })
        .await?;
    backend.begin().await?;
    for (event, signature) in &rows {
        backend.insert_manifest(event, signature, true).await?;
    }
    Ok(backend.commit().await?)
}

fn parse_signature(row: ManifestRow) -> Option<ManifestSignature> {
    Some(ManifestSignature {
        manifest_hash: Hash(row.manifest_hash.try_into().ok()?),
        signature: row.signature.try_into().ok()?,
        signer_id: row.signer_id,
        signed_at: Time::parse(&row.signed_at)?,
    })
}
