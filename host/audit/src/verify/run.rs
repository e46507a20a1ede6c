//! Verifies a log in its store: segments are read and verified in parallel, and combined in order.

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinError;

use super::{Code, Problem, Report, Segment, StoredNote, TrustedReferences, Verifier};
use crate::read::{ReadError, Reader};

/// The number of events in a segment: small in memory, and large enough to amortise the queries.
const SEGMENT: u64 = 16_384;

/// The progress of a verification or copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of events done.
    pub done: u64,
    /// The number of events in all.
    pub total: u64,
}

/// Verifies a log up to its current end, reading `readers` segments at a time. Calls `on_progress` after each segment.
///
/// # Errors
/// If the store cannot be read. Problems of the log are not errors, but part of the report.
pub async fn verify(
    reader: &Reader,
    references: TrustedReferences,
    readers: usize,
    mut on_progress: impl FnMut(Progress),
) -> Result<Report, ReadError> {
    let mut verifier = Verifier::new(references);
    verifier.expect_manifests();
    reader
        .manifests(u64::MAX, |row| {
            verifier.add_manifest(&row);
            Ok::<_, ReadError>(())
        })
        .await?;
    // Checkpoints are written after the events they cover: the events that are read next include those that the current
    // checkpoints cover.
    let most = reader.last_note().await?.map_or(0, |note| note.size);
    let extent = reader.extent().await?;
    let total = extent.map_or(0, |extent| extent.last);
    if let Some(extent) = extent.filter(|extent| extent.first < 1) {
        let detail = format!(
            "an event has the sequence number {}: the first is 1",
            extent.first
        );
        verifier.add_problem(Problem::at(1, Code::EventOutOfOrder, detail));
    }
    let extra = reader.rows_without_seq().await?;
    if extra > 0 {
        verifier.add_problem(Problem::extra_rows(extra));
    }
    let firsts = (1..=total).step_by(usize::try_from(SEGMENT).unwrap_or(usize::MAX));
    let mut segments = stream::iter(firsts)
        .map(|first| {
            let reader = reader.clone();
            let last = total.min(first + SEGMENT - 1);
            tokio::spawn(async move { read_segment(&reader, first, last).await })
        })
        .buffered(readers.max(1));
    while let Some(read) = segments.next().await {
        let (segment, notes) = read.map_err(task_failed)??;
        let intact = verifier
            .add_segment(segment, &notes)
            .map_err(ReadError::TempFile)?;
        let done = verifier.next() - 1;
        on_progress(Progress { done, total });
        if !intact {
            break;
        }
    }
    if total == 0 {
        verifier
            .add_segment(Segment::new(1), &reader.notes(i64::MIN, 0).await?)
            .map_err(ReadError::TempFile)?;
    }
    verifier.add_notes_past_end(&reader.notes_beyond(total, most).await?);
    if verifier.has_missing_manifests() {
        reader
            .manifests(u64::MAX, |row| {
                verifier.add_late_manifest(&row);
                Ok::<_, ReadError>(())
            })
            .await?;
        verifier.finish_manifests();
    }
    reader.check_unchanged()?;
    let mut report = verifier.finish().map_err(ReadError::TempFile)?;
    report.wal_missing = reader.wal_missing();
    Ok(report)
}

async fn read_segment(
    reader: &Reader,
    first: u64,
    last: u64,
) -> Result<(Segment, Vec<StoredNote>), ReadError> {
    let segment = reader.segment(first, last).await?;
    // Checkpoints over no event are read with the first segment.
    let from = if first == 1 {
        i64::MIN
    } else {
        i64::try_from(first).unwrap_or(i64::MAX)
    };
    Ok((segment, reader.notes(from, last).await?))
}

fn task_failed(error: JoinError) -> ReadError {
    ReadError::TempFile(std::io::Error::other(error))
}
