//! Opens a SQLite database read-only, whether a host is writing to it or it is on read-only media.
//!
//! A database in WAL mode is read through three files: itself, `-wal` with the newest pages, and `-shm`, which SQLite
//! recreates. That takes write access, which evidence must not need. Without `-shm`, no process is writing to the database.
//! Then it is read with its `-wal` and without locks, or, if there is no `-wal`, as an immutable file. After reading, the
//! files are checked for changes.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode, SqlitePoolOptions};

use super::ReadError;
use crate::store::files::beside;

/// Limit of opening the database.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// The number of rows that the SQLite thread reads ahead.
const ROWS_AHEAD: usize = 1024;
/// The primary result codes of SQLite for a file that could not be opened or written: READONLY, IOERR, CANTOPEN.
const CANNOT_WRITE: [i32; 3] = [8, 10, 14];
/// The read and write version in the header of a database in WAL mode.
const WAL_VERSION: u8 = 2;

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// With locks: a host may be writing.
    Shared,
    /// Without locks, with the write-ahead log: no process is writing, and nothing can be written.
    Exclusive,
    /// As an immutable file without a write-ahead log.
    Immutable,
}

/// A database file that is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    mode: Mode,
    /// The database and its write-ahead log when they were opened.
    stamps: [Option<FileStamp>; 2],
    pub(super) wal_missing: bool,
}

/// Changes when a file is written to or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileStamp {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

fn file_stamps(path: &Path) -> [Option<FileStamp>; 2] {
    let stamp = |path: &Path| Some(FileStamp::of(&fs::metadata(path).ok()?));
    [stamp(path), stamp(&beside(path, "-wal"))]
}

/// Opens a database with up to `readers` connections.
pub(super) async fn open(path: &Path, readers: u32) -> Result<(SqlitePool, DatabaseFile), ReadError> {
    if !path.is_file() {
        return Err(ReadError::FileNotFound(path.to_owned()));
    }
    let failed = |error| ReadError::File(path.to_owned(), error);
    let stamps = file_stamps(path);
    let has_content = |name| fs::metadata(beside(path, name)).is_ok_and(|found| found.len() > 0);
    let (wal, journal) = (has_content("-wal"), has_content("-journal"));
    let in_use = beside(path, "-shm").exists();
    let wal_mode = is_wal_mode(path).map_err(|error| failed(sqlx::Error::Io(error)))?;
    // A clean shutdown leaves WAL mode: a database in this mode without a log was copied without it.
    let wal_missing = wal_mode && !wal && !in_use;
    let mut mode = if wal_missing {
        Mode::Immutable
    } else {
        Mode::Shared
    };
    let mut opened = connect(path, mode, readers).await;
    if let Err(error) = &opened
        && cannot_write(error)
        && !in_use
        && !journal
    {
        mode = if wal { Mode::Exclusive } else { Mode::Immutable };
        opened = connect(path, mode, readers).await;
    }
    let file = DatabaseFile {
        path: path.to_owned(),
        mode,
        stamps,
        wal_missing,
    };
    Ok((opened.map_err(failed)?, file))
}

impl DatabaseFile {
    /// Fails if a database that is read without locks changed.
    pub(super) fn check_unchanged(&self) -> Result<(), ReadError> {
        if self.mode == Mode::Shared || file_stamps(&self.path) == self.stamps {
            return Ok(());
        }
        Err(ReadError::Changed(self.path.clone()))
    }
}

async fn connect(path: &Path, mode: Mode, readers: u32) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .row_buffer_size(ROWS_AHEAD);
    let options = match mode {
        Mode::Shared => options,
        // In exclusive mode SQLite keeps the index of the write-ahead log in memory. This VFS takes no locks, which would
        // fail on a read-only file.
        Mode::Exclusive => options
            .vfs("unix-none")
            .locking_mode(SqliteLockingMode::Exclusive),
        Mode::Immutable => options.immutable(true),
    };
    let pool = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(OPEN_LIMIT)
        .connect_with(options)
        .await?;
    // SQLite opens its files at the first read.
    sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&pool)
        .await?;
    Ok(pool)
}

fn cannot_write(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    let code = code.and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| CANNOT_WRITE.contains(&(code & 0xff)))
}

fn is_wal_mode(path: &Path) -> io::Result<bool> {
    let mut header = [0; 20];
    match File::open(path)?.read_exact(&mut header) {
        // SQLite itself rejects a file that is too short.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| header.ends_with(&[WAL_VERSION, WAL_VERSION])),
    }
}
