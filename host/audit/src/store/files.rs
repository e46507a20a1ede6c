//! The files of a SQLite store: created with owner-only permissions, locked against a second writer, and checked for changes
//! by other processes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{OpenError, StoreError};

/// The files of a store. While this exists, no other Postern process writes to them.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    database: FileId,
    /// `None` until the file exists.
    wal: Option<FileId>,
    /// The stamps of the database and its write-ahead log after the last commit.
    stamps: Option<[Option<FileStamp>; 2]>,
    /// The kernel releases the lock when the process ends.
    _lock: File,
    /// The database itself is locked as well: it may have several names, each with its own lock file. SQLite uses another
    /// kind of lock (fcntl). The kernel drops those when this process closes any descriptor of the file, so this one is
    /// opened before SQLite connects and closed after SQLite disconnects.
    _database: File,
}

/// Distinguishes a file from another one at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Changes whenever a file is written to or truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    /// `mtime`: the owner of the file can set it.
    modified: (i64, i64),
    /// `ctime`: cannot be set. It also changes with the file's owner, mode and names, and SQLite itself resets the owner
    /// whenever root reads the database.
    changed: (i64, i64),
}

/// How the files differ from their state after the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileChange {
    None,
    /// Only `ctime` differs: either nothing was written, or `mtime` was set back after writing.
    Metadata,
}

/// The mode bits of write access for the group and for others.
const EXPOSED: u32 = 0o022;

impl Files {
    /// Takes the locks, and creates the database file if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::File(path.to_owned(), error);
        let lock = beside(path, ".lock");
        let file = owner_only().open(&lock);
        let file = file.map_err(|error| OpenError::File(lock.clone(), error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked(path.to_owned()),
            TryLockError::Error(error) => OpenError::File(lock, error),
        })?;
        let database = owner_only().open(path).map_err(failed)?;
        database.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked(path.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        sync_directory(path).map_err(failed)?;
        let found = database.metadata().map_err(failed)?;
        if found.mode() & EXPOSED != 0 {
            return Err(OpenError::InsecurePermissions(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            database: FileId::of(&found),
            wal: None,
            stamps: None,
            _lock: file,
            _database: database,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the path of the database or of its write-ahead log no longer leads to the file that was opened. A process
    /// can go on writing to a deleted file that can never be read again.
    pub(super) fn check_identity(&mut self) -> Result<(), StoreError> {
        let replaced = |path: &Path| StoreError::FileReplaced(path.to_owned());
        if identity(&self.path) != Some(self.database) {
            return Err(replaced(&self.path));
        }
        let path = beside(&self.path, "-wal");
        let wal = identity(&path);
        if self.wal.is_some() && wal != self.wal {
            return Err(replaced(&path));
        }
        self.wal = wal;
        Ok(())
    }

    /// Fails if the database or its write-ahead log changed since [`Self::record_stamps`]. Only this process writes to them,
    /// and only in a commit, so another process truncated or overwrote them. SQLite would continue behind the gap and report
    /// each commit as durable.
    pub(super) fn check_stamps(&mut self) -> Result<FileChange, StoreError> {
        self.check_identity()?;
        let Some(before) = self.stamps else {
            return Ok(FileChange::None);
        };
        let now = self.current_stamps();
        if before == now {
            return Ok(FileChange::None);
        }
        let content = |stamp: Option<FileStamp>| stamp.map(|stamp| (stamp.length, stamp.modified));
        for (index, path) in [self.path.clone(), beside(&self.path, "-wal")]
            .into_iter()
            .enumerate()
        {
            if before.get(index).copied().map(content) != now.get(index).copied().map(content) {
                return Err(StoreError::FileChanged(path));
            }
        }
        Ok(FileChange::Metadata)
    }

    /// Records the stamps of the files after a commit.
    pub(super) fn record_stamps(&mut self) -> Result<(), StoreError> {
        self.check_identity()?;
        let now = self.current_stamps();
        // SQLite reuses the write-ahead log from its beginning, and never shortens it while it is open.
        let is_shorter = |before: Option<FileStamp>, now: Option<FileStamp>| {
            before.is_some_and(|before| now.is_none_or(|now| now.length < before.length))
        };
        if let (Some([_, before]), [_, wal]) = (self.stamps, now)
            && is_shorter(before, wal)
        {
            return Err(StoreError::FileChanged(beside(&self.path, "-wal")));
        }
        self.stamps = Some(now);
        Ok(())
    }

    fn current_stamps(&self) -> [Option<FileStamp>; 2] {
        [&self.path, &beside(&self.path, "-wal")].map(|path| Some(FileStamp::of(&fs::metadata(path).ok()?)))
    }

    /// Called when the connection closes: the next one may create a new write-ahead log.
    pub(super) fn forget_wal(&mut self) {
        self.wal = None;
        self.stamps = None;
    }
}

impl FileStamp {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl FileId {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

fn identity(path: &Path) -> Option<FileId> {
    Some(FileId::of(&fs::metadata(path).ok()?))
}

/// Creates a missing file with owner-only permissions.
fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

/// The path of a file beside a database, such as `-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the entries of a file's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
