//! Verifying a log in its store: stretches are read and verified side by side, and put together in their order.

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinError;

use super::{Code, Problem, Report, Segment, StoredNote, TrustedReferences, Verifier};
use crate::read::{ReadError, Reader};

/// How many events are in a stretch: few enough to forget, many enough that asking costs nothing.
const STRETCH: u64 = 16_384;

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many events are verified.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Verifies a log up to the end it has now; `tell` hears how far it is. `readers` stretches are read at a time.
///
/// # Errors
/// If the store cannot be read. That a log is not whole is no error: the report says so.
pub async fn verify(
    reader: &Reader,
    against: TrustedReferences,
    readers: usize,
    mut tell: impl FnMut(Progress),
) -> Result<Report, ReadError> {
    let mut verifier = Verifier::new(against);
    verifier.expect_manifests();
    reader
        .manifests(u64::MAX, |row| {
            verifier.take_manifest(&row);
            Ok::<_, ReadError>(())
        })
        .await?;
    // Checkpoints come after what they cover: those that are there now cover no event that is not there next.
    let most = reader.last_note().await?.map_or(0, |note| note.size);
    let extent = reader.extent().await?;
    let total = extent.map_or(0, |extent| extent.last);
    if let Some(extent) = extent.filter(|extent| extent.first < 1) {
        let detail = format!("an event stands in the place {}: the first is 1", extent.first);
        verifier.problem(Problem::at(1, Code::EventOutOfOrder, detail));
    }
    let extra = reader.rows_without_place().await?;
    if extra > 0 {
        verifier.problem(Problem::extra(extra));
    }
    let firsts = (1..=total).step_by(usize::try_from(STRETCH).unwrap_or(usize::MAX));
    let mut stretches = stream::iter(firsts)
        .map(|first| {
            let reader = reader.clone();
            let last = total.min(first + STRETCH - 1);
            tokio::spawn(async move { read(&reader, first, last).await })
        })
        .buffered(readers.max(1));
    while let Some(read) = stretches.next().await {
        let (segment, notes) = read.map_err(ended)??;
        let go_on = verifier.take(segment, &notes).map_err(ReadError::Temporary)?;
        let done = verifier.next() - 1;
        tell(Progress { done, total });
        if !go_on {
            break;
        }
    }
    if total == 0 {
        verifier
            .take(Segment::new(1), &reader.notes(i64::MIN, 0).await?)
            .map_err(ReadError::Temporary)?;
    }
    verifier.take_beyond(&reader.notes_beyond(total, most).await?);
    if verifier.misses_manifests() {
        reader
            .manifests(u64::MAX, |row| {
                verifier.take_late_manifest(&row);
                Ok::<_, ReadError>(())
            })
            .await?;
        verifier.take_no_more_manifests();
    }
    reader.is_settled()?;
    let mut report = verifier.finish().map_err(ReadError::Temporary)?;
    report.wal_missing = reader.wal_missing();
    Ok(report)
}

async fn read(reader: &Reader, first: u64, last: u64) -> Result<(Segment, Vec<StoredNote>), ReadError> {
    let segment = reader.segment(first, last).await?;
    // Those over no event come with the first.
    let from = if first == 1 {
        i64::MIN
    } else {
        i64::try_from(first).unwrap_or(i64::MAX)
    };
    Ok((segment, reader.notes(from, last).await?))
}

fn ended(error: JoinError) -> ReadError {
    ReadError::Temporary(std::io::Error::other(error))
}
