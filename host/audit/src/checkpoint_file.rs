//! The external checkpoint file: append-only, kept outside the store.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use postern_files::with_deadline;

use crate::store::files::sync_directory;
use crate::verify::{Ending, checkpoint_file};
use crate::{Checkpoint, Hash, Note, OpenError};

/// Limit of reading the file.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// The checkpoints of one log in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointFile {
    /// The checkpoint over the most events.
    pub(crate) last: Option<Checkpoint>,
    /// The size and hash of each checkpoint.
    pub(crate) all: BTreeSet<(u64, Hash)>,
    state: FileState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Whole,
    Missing,
    /// Ends with an incomplete checkpoint.
    Torn,
    /// Has no checkpoint of this log.
    Other,
}

/// The file lacks checkpoints that the log itself has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFault {
    /// The reason code of the event that records the fault.
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl CheckpointFile {
    /// Compares the file with the last checkpoint in the store. A log without checkpoints needs no file yet. Where several
    /// hosts write to a log (`shared`), the last checkpoint may be in another host's file.
    pub(crate) fn fault(&self, path: &Path, stored: Option<&Checkpoint>, shared: bool) -> Option<FileFault> {
        let stored = stored?.size;
        let last = self.last.as_ref().map_or(0, |checkpoint| checkpoint.size);
        let (code, what) = match self.state {
            FileState::Missing => (
                "checkpoints_file_missing",
                format!(
                    "is missing, and the log has checkpoints up to event {stored}: it was moved or deleted, or its disk \
                     is not mounted; a new file is created"
                ),
            ),
            FileState::Other => (
                "checkpoints_file_empty",
                format!("has no checkpoint of this log, which has checkpoints up to event {stored}"),
            ),
            FileState::Torn => (
                "checkpoints_file_torn",
                "ends with an incomplete checkpoint: a write was interrupted, or the file was damaged"
                    .to_owned(),
            ),
            FileState::Whole if last < stored && !shared => (
                "checkpoints_file_short",
                format!(
                    "ends with the checkpoint over {last} events, and the log has checkpoints up to event {stored}: its \
                     end was cut off, or could not be written"
                ),
            ),
            FileState::Whole => return None,
        };
        Some(FileFault {
            code,
            detail: format!("{} {what}", path.display()),
        })
    }
}

/// Reads the file, within a deadline.
pub(crate) async fn read(path: &Path, origin: &str) -> Result<CheckpointFile, OpenError> {
    let (file, origin) = (path.to_owned(), origin.to_owned());
    let read = with_deadline(path, READ_LIMIT, move || read_all(&file, &origin)).await;
    let contents = read.map_err(io::Error::from).and_then(|contents| contents);
    contents.map_err(|error| OpenError::File(path.to_owned(), error))
}

/// Reads all of the file: appending to it must not hide earlier checkpoints.
fn read_all(path: &Path, origin: &str) -> io::Result<CheckpointFile> {
    let mut contents = CheckpointFile {
        last: None,
        all: BTreeSet::new(),
        state: FileState::Missing,
    };
    let file = match postern_files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
        Err(error) => return Err(error),
    };
    let found = checkpoint_file::read(BufReader::new(file), |Note { checkpoint, .. }| {
        if checkpoint.origin != origin {
            return;
        }
        contents.all.insert((checkpoint.size, checkpoint.hash));
        if contents
            .last
            .as_ref()
            .is_none_or(|last| last.size <= checkpoint.size)
        {
            contents.last = Some(checkpoint);
        }
    })?;
    contents.state = match found.ending {
        Ending::Torn { .. } => FileState::Torn,
        _ if contents.last.is_none() => FileState::Other,
        Ending::Whole { .. } | Ending::Empty => FileState::Whole,
    };
    Ok(contents)
}

/// Appends a note and makes it durable. A blank line ends an incomplete note that an earlier attempt left.
pub(crate) fn append(path: &Path, note: &Note) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o644)
        .open(path)?;
    let length = file.metadata()?.len();
    let terminated = length == 0 || read_end(&mut file, 2)? == b"\n\n";
    let before = if terminated { "" } else { "\n\n" };
    file.write_all(format!("{before}{note}\n").as_bytes())?;
    file.sync_all()?;
    if length == 0 {
        sync_directory(path)?;
    }
    Ok(())
}

fn read_end(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Hash, Notes, Signature, Time};

    fn last(path: &Path, origin: &str) -> io::Result<Option<Checkpoint>> {
        Ok(read_all(path, origin)?.last)
    }

    fn note(origin: &str, size: u64) -> Note {
        let checkpoint = Checkpoint {
            origin: origin.into(),
            size,
            hash: Hash([1; 32]),
            time: Time::EPOCH,
        };
        Note::new(checkpoint, vec![Signature::new("kernel", &[2; 32], [3; 64])]).unwrap()
    }

    #[test]
    fn the_last_complete_checkpoint_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        assert_eq!(last(&path, "a").unwrap(), None, "no file");
        let sizes = |origin| last(&path, origin).unwrap().map(|checkpoint| checkpoint.size);
        for size in 1..400 {
            append(&path, &note("a", size)).unwrap();
        }
        append(&path, &note("b", 5)).unwrap();
        assert_eq!((sizes("a"), sizes("b"), sizes("c")), (Some(399), Some(5), None));

        // Interrupted by a crash, and continued.
        let text = note("a", 400).to_string();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
        assert_eq!(sizes("a"), Some(399));
        append(&path, &note("a", 401)).unwrap();
        assert_eq!(sizes("a"), Some(401));
        let all = fs::read_to_string(&path).unwrap();
        assert_eq!(Notes::of(&all).filter(Result::is_ok).count(), 401);
        assert_eq!(Notes::of(&all).filter(Result::is_err).count(), 1);
    }

    #[test]
    fn appended_text_does_not_hide_earlier_checkpoints() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        append(&path, &note("a", 7)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&vec![b'x'; 300_000]).unwrap();
        file.write_all(b"\xff\n\n").unwrap();
        for _ in 0..2_000 {
            append(&path, &note("a", 3)).unwrap();
        }
        let size = last(&path, "a").unwrap().map(|checkpoint| checkpoint.size);
        assert_eq!(size, Some(7));
    }

    #[test]
    fn a_fifo_or_a_directory_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        assert!(read_all(&path, "a").is_err());
        assert!(read_all(directory.path(), "a").is_err());
    }

    #[test]
    fn a_file_that_lacks_checkpoints_of_the_log_is_a_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        let stored = note("a", 3).checkpoint;
        let code = |stored: Option<&Checkpoint>| {
            let contents = read_all(&path, "a").unwrap();
            contents.fault(&path, stored, false).map(|fault| fault.code)
        };
        assert_eq!(code(None), None, "a new log");
        assert_eq!(code(Some(&stored)), Some("checkpoints_file_missing"));
        fs::write(&path, "").unwrap();
        assert_eq!(code(Some(&stored)), Some("checkpoints_file_empty"));
        append(&path, &note("b", 3)).unwrap();
        assert_eq!(code(Some(&stored)), Some("checkpoints_file_empty"));
        append(&path, &note("a", 2)).unwrap();
        assert_eq!(code(Some(&stored)), Some("checkpoints_file_short"));
        append(&path, &note("a", 3)).unwrap();
        assert_eq!(code(Some(&stored)), None);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 30]).unwrap();
        assert_eq!(code(Some(&stored)), Some("checkpoints_file_torn"));
    }
}
