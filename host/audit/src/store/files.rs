//! The files of a SQLite store: made closed to others, locked against a second writer, and looked after.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{OpenError, StoreError};

/// The files of a store. While this lives, no other process writes to it.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    database: Identity,
    /// Known once there is one.
    wal: Option<Identity>,
    /// What the database and its write-ahead log were like after the last commit.
    left: Option<[Option<Content>; 2]>,
    /// Held until the process ends, however it ends.
    _lock: File,
    /// The database itself, locked as well: it may have other names, and each of them another lock file. SQLite's own locks
    /// are of another kind (fcntl). The system drops those when this process closes any descriptor of the file, so this
    /// one is opened before SQLite connects and closed after.
    _database: File,
}

/// Tells a file from another that has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Changes whenever somebody writes to a file or cuts it short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    length: u64,
    /// The owner of a file can set this time to any.
    modified: (i64, i64),
    /// This one nobody can set. It also changes with the file's owner, mode and names, which SQLite itself sets anew
    /// whenever root reads the database.
    changed: (i64, i64),
}

/// What files are like that somebody may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traces {
    /// As they were left.
    None,
    /// Of the same length and written to at the same time as far as can be said, but not untouched: either nothing is
    /// wrong, or somebody set the time back after writing.
    Faint,
}

/// May be written to by the group or by all.
const EXPOSED: u32 = 0o022;

impl Files {
    /// Takes the locks and makes the database's file if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::File(path.to_owned(), error);
        let lock = beside(path, ".lock");
        let file = own().open(&lock);
        let file = file.map_err(|error| OpenError::File(lock.clone(), error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Taken(path.to_owned()),
            TryLockError::Error(error) => OpenError::File(lock, error),
        })?;
        let database = own().open(path).map_err(failed)?;
        database.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Taken(path.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        sync_directory(path).map_err(failed)?;
        let found = database.metadata().map_err(failed)?;
        if found.mode() & EXPOSED != 0 {
            return Err(OpenError::Exposed(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            database: Identity::of(&found),
            wal: None,
            left: None,
            _lock: file,
            _database: database,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error if the database or its write-ahead log is no longer the file that was opened. A process may go on
    /// writing to a file that was deleted, and nobody would ever read it.
    pub(super) fn still_there(&mut self) -> Result<(), StoreError> {
        let gone = |path: &Path| StoreError::Gone(path.to_owned());
        if identity(&self.path) != Some(self.database) {
            return Err(gone(&self.path));
        }
        let path = beside(&self.path, "-wal");
        let wal = identity(&path);
        if self.wal.is_some() && wal != self.wal {
            return Err(gone(&path));
        }
        self.wal = wal;
        Ok(())
    }

    /// An error if somebody changed the database or its write-ahead log since [`Self::leave`]. Only this process writes to
    /// them, and only in a commit, so whoever did cut them short or wrote over them; SQLite would go on behind the gap and
    /// report each commit as durable.
    pub(super) fn untouched(&mut self) -> Result<Traces, StoreError> {
        self.still_there()?;
        let Some(left) = self.left else {
            return Ok(Traces::None);
        };
        let now = self.content();
        if left == now {
            return Ok(Traces::None);
        }
        let written = |content: Option<Content>| content.map(|content| (content.length, content.modified));
        for (place, path) in [self.path.clone(), beside(&self.path, "-wal")]
            .into_iter()
            .enumerate()
        {
            if left.get(place).copied().map(written) != now.get(place).copied().map(written) {
                return Err(StoreError::Touched(path));
            }
        }
        Ok(Traces::Faint)
    }

    /// Remembers what the files are like, after a commit.
    pub(super) fn leave(&mut self) -> Result<(), StoreError> {
        self.still_there()?;
        let now = self.content();
        // A write-ahead log is written over from its beginning, and never becomes shorter while it is open.
        let shorter = |before: Option<Content>, now: Option<Content>| {
            before.is_some_and(|before| now.is_none_or(|now| now.length < before.length))
        };
        if let (Some([_, before]), [_, wal]) = (self.left, now)
            && shorter(before, wal)
        {
            return Err(StoreError::Touched(beside(&self.path, "-wal")));
        }
        self.left = Some(now);
        Ok(())
    }

    fn content(&self) -> [Option<Content>; 2] {
        [&self.path, &beside(&self.path, "-wal")].map(|path| Some(Content::of(&fs::metadata(path).ok()?)))
    }

    /// The connection is given up: the write-ahead log may be another one next time.
    pub(super) fn forget_wal(&mut self) {
        self.wal = None;
        self.left = None;
    }
}

impl Content {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Identity {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    Some(Identity::of(&fs::metadata(path).ok()?))
}

/// To be made for the owner alone, if it is not there.
fn own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the names in a file's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
