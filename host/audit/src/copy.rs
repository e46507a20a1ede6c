//! A copy of a log, in a store that is new: what backups are made of and restored from.
//!
//! A log only grows, so a copy up to the event that was the last when it began is consistent however long it takes and
//! whatever is written meanwhile. Nothing is verified here: [`crate::verify`] the copy.

use std::collections::HashMap;

use uuid::Uuid;

use crate::log::own;
use crate::read::{ReadError, Reader};
use crate::store::{self, Backend};
use crate::verify::{ManifestRow, Progress};
use crate::{
    Decision, Event, Hash, Head, Kind, ManifestSignature, OpenError, Record, Store, StoreError, Time, link,
};

/// How many events are copied at a time.
const PIECE: u64 = 4096;

/// Why a log is not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new store cannot be written.
    #[error("the new store: {0}")]
    Write(#[from] StoreError),
    /// The new store is none.
    #[error("the store has a log already: a copy is written to an empty one")]
    NotEmpty,
    /// A row that no log has.
    #[error("a row of manifest_signatures cannot be read: run `postern audit verify`")]
    Manifest,
}

/// Writes all of a log into an empty store; returns its last event. `tell` hears how far it is.
///
/// # Errors
/// If the log cannot be read, or the store is not empty or cannot be written.
pub async fn copy(reader: &Reader, target: &Store, tell: impl FnMut(Progress)) -> Result<Head, CopyError> {
    let mut backend = store::open(target).await?;
    let copied = fill(reader, &mut backend, tell).await;
    backend.close().await;
    copied
}

/// Puts on record that a log goes on from a copy of it.
///
/// # Errors
/// If the store cannot be written.
pub async fn record_restored(target: &Store, host: &str, from: &Head, now: Time) -> Result<Head, CopyError> {
    let mut backend = store::open(target).await?;
    let recorded = append(&mut backend, restored(host, from, now), now).await;
    backend.close().await;
    recorded
}

fn restored(host: &str, from: &Head, now: Time) -> Event {
    let mut event = own(Kind::Host, host, now);
    event.decision = Some(Decision::Allowed);
    event.reason = Some("audit_restored".into());
    event.detail.insert("size".into(), from.size.into());
    event.detail.insert("hash".into(), from.hash.to_string().into());
    event
}

async fn append(backend: &mut Backend, event: Event, now: Time) -> Result<Head, CopyError> {
    let head = backend.begin().await?;
    let links = link::link(head, now, [event].iter(), HashMap::new());
    backend.insert(links.entries).await?;
    backend.commit().await?;
    Ok(links.head)
}

async fn fill(
    reader: &Reader,
    backend: &mut Backend,
    mut tell: impl FnMut(Progress),
) -> Result<Head, CopyError> {
    if backend.verified_head().await? != Head::EMPTY || backend.last_checkpoint().await?.is_some() {
        return Err(CopyError::NotEmpty);
    }
    let total = reader.extent().await?.map_or(0, |extent| extent.last);
    let mut manifested = HashMap::new();
    for first in (1..=total).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
        let last = total.min(first + PIECE - 1);
        let entries: Vec<_> = reader
            .between(first, last)
            .await?
            .into_iter()
            .map(|found| found.entry)
            .collect();
        for entry in &entries {
            // Others hold it as a value at the most: it is looked at again below.
            if entry.payload.contains("manifest_signature")
                && let Ok(record) = serde_json::from_str::<Record>(&entry.payload)
            {
                manifested.insert(entry.id, record.event);
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
        tell(Progress { done: last, total });
    }
    manifests(reader, backend, &manifested).await?;
    reader.is_settled()?;
    Ok(backend.verified_head().await?)
}

/// The signatures that the copied events tell of. Others belong to events that came later.
async fn manifests(
    reader: &Reader,
    backend: &mut Backend,
    events: &HashMap<Uuid, Event>,
) -> Result<(), CopyError> {
    let mut rows = Vec::new();
    reader
        .manifests(u64::MAX, |row| {
            let id = Uuid::from_slice(&row.id).map_err(|_| CopyError::Manifest)?;
            if let Some(event) = events.get(&id) {
                rows.push((event, signature(row).ok_or(CopyError::Manifest)?));
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

fn signature(row: ManifestRow) -> Option<ManifestSignature> {
    Some(ManifestSignature {
        manifest_hash: Hash(row.manifest_hash.try_into().ok()?),
        signature: row.signature.try_into().ok()?,
        signer_id: row.signer_id,
        signed_at: Time::parse(&row.signed_at)?,
    })
}
