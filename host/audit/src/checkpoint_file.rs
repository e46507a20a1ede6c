//! The file of checkpoints outside the log. It only grows.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use postern_files::within;

use crate::store::files::sync_directory;
use crate::verify::{Ending, checkpoint_file};
use crate::{Checkpoint, Hash, Note, OpenError};

/// How long reading the file may take.
const READING: Duration = Duration::from_secs(30);

/// What the file says of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The checkpoint of this log over the most events.
    pub(crate) last: Option<Checkpoint>,
    /// How many events each checkpoint of this log is over, and the hash of the last of them.
    pub(crate) all: BTreeSet<(u64, Hash)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Missing,
    Torn,
    /// There is no checkpoint of this log in it.
    Other,
}

/// Why the file does not show what the log's own checkpoints do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// For programs.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) detail: String,
}

impl Kept {
    /// What is wrong with the file, beside a log whose own last checkpoint is this one. A log that has none yet has no
    /// file either. Where several hosts write to a log (`shared`), another's checkpoint may be the last.
    pub(crate) fn fault(&self, path: &Path, stored: Option<&Checkpoint>, shared: bool) -> Option<Fault> {
        let stored = stored?.size;
        let kept = self.last.as_ref().map_or(0, |checkpoint| checkpoint.size);
        let (code, what) = match self.state {
            State::Missing => (
                "checkpoints_file_missing",
                format!(
                    "is missing, and the log has checkpoints up to event {stored}: it was moved or deleted, or its disk \
                     is not mounted; a new one is begun"
                ),
            ),
            State::Other => (
                "checkpoints_file_empty",
                format!("has no checkpoint of this log, which has its own up to event {stored}"),
            ),
            State::Torn => (
                "checkpoints_file_torn",
                "ends with a piece that is no checkpoint: a write was cut short, or it was damaged"
                    .to_owned(),
            ),
            State::Whole if kept < stored && !shared => (
                "checkpoints_file_short",
                format!(
                    "ends with the checkpoint over {kept} events, and the log has its own up to event {stored}: its end \
                     was cut off, or could not be written"
                ),
            ),
            State::Whole => return None,
        };
        Some(Fault {
            code,
            detail: format!("{} {what}", path.display()),
        })
    }
}

/// Reads the file, within a deadline.
pub(crate) async fn read(path: &Path, origin: &str) -> Result<Kept, OpenError> {
    let (file, origin) = (path.to_owned(), origin.to_owned());
    let read = within(path, READING, move || read_all(&file, &origin)).await;
    let kept = read.map_err(io::Error::from).and_then(|kept| kept);
    kept.map_err(|error| OpenError::File(path.to_owned(), error))
}

/// Reads all of the file: whoever can only append to it must not hide what it said before.
fn read_all(path: &Path, origin: &str) -> io::Result<Kept> {
    let mut kept = Kept {
        last: None,
        all: BTreeSet::new(),
        state: State::Missing,
    };
    let file = match postern_files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        Err(error) => return Err(error),
    };
    let found = checkpoint_file::read(BufReader::new(file), |Note { checkpoint, .. }| {
        if checkpoint.origin != origin {
            return;
        }
        kept.all.insert((checkpoint.size, checkpoint.hash));
        if kept.last.as_ref().is_none_or(|last| last.size <= checkpoint.size) {
            kept.last = Some(checkpoint);
        }
    })?;
    kept.state = match found.ending {
        Ending::Torn { .. } => State::Torn,
        _ if kept.last.is_none() => State::Other,
        Ending::Whole { .. } | Ending::Empty => State::Whole,
    };
    Ok(kept)
}

/// Puts a note at the end and makes it durable. A piece that an earlier try left there is closed off by a blank line.
pub(crate) fn append(path: &Path, note: &Note) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o644)
        .open(path)?;
    let length = file.metadata()?.len();
    let closed = length == 0 || end_of(&mut file, 2)? == b"\n\n";
    let before = if closed { "" } else { "\n\n" };
    file.write_all(format!("{before}{note}\n").as_bytes())?;
    file.sync_all()?;
    if length == 0 {
        sync_directory(path)?;
    }
    Ok(())
}

fn end_of(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
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
    fn the_last_whole_checkpoint_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        assert_eq!(last(&path, "a").unwrap(), None, "no file");
        let sizes = |origin| last(&path, origin).unwrap().map(|checkpoint| checkpoint.size);
        for size in 1..400 {
            append(&path, &note("a", size)).unwrap();
        }
        append(&path, &note("b", 5)).unwrap();
        assert_eq!((sizes("a"), sizes("b"), sizes("c")), (Some(399), Some(5), None));

        // Cut short by a crash, and gone on with.
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
    fn what_is_appended_does_not_hide_what_the_file_said() {
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
    fn a_fifo_is_no_file_of_checkpoints() {
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
    fn a_file_that_shows_less_than_the_log_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        let stored = note("a", 3).checkpoint;
        let code = |stored: Option<&Checkpoint>| {
            let kept = read_all(&path, "a").unwrap();
            kept.fault(&path, stored, false).map(|fault| fault.code)
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
