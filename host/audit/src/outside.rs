//! The file of checkpoints outside the log. It only grows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::store::files::sync_directory;
use crate::{Checkpoint, Note, Notes, OpenError};

/// What is read of its end: many notes, of which the last whole one counts.
const END: u64 = 64 * 1024;

/// The checkpoint of this log with the most events among the last ones of the file; none if there is no file yet.
pub(crate) fn last(path: &Path, origin: &str) -> Result<Option<Checkpoint>, OpenError> {
    let bytes = match end(path, END) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::File(path.to_owned(), error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let ours = Notes::of(&text)
        .filter_map(Result::ok)
        .map(|note| note.checkpoint)
        .filter(|checkpoint| checkpoint.origin == origin);
    let last = ours.max_by_key(|checkpoint| checkpoint.size);
    if last.is_none() && !bytes.is_empty() {
        tracing::warn!(path = %path.display(), %origin, "no checkpoint of this log in the file; its end cannot be compared");
    }
    Ok(last)
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

fn end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    end_of(&mut File::open(path)?, most)
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
    use crate::{Hash, Signature, Time};

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
}
