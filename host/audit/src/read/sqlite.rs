//! Opening a database of SQLite's to read it, wherever it lies: beside a host that writes to it, or on a medium that
//! nothing can be written to.
//!
//! A database in write-ahead mode is read through three files: itself, `-wal` with the newest pages, and `-shm`, which
//! SQLite makes anew, so it wants to write where evidence must not be written to. Without `-shm` nobody writes to the
//! database. Then it is read with its `-wal` and without locks, or, where there is no `-wal`, as a file that does not
//! change; whether it did is looked at in the end.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode, SqlitePoolOptions};

use super::ReadError;
use crate::store::files::beside;

/// How long a store may take to answer that it is there.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// How many rows SQLite's thread reads ahead.
const ROWS_AHEAD: usize = 1024;
/// Primary result codes of SQLite's that mean that a file could not be opened or written: READONLY, IOERR, CANTOPEN.
const CANNOT_WRITE: [i32; 3] = [8, 10, 14];
/// What the header of a database says in two places if it is in write-ahead mode.
const WRITE_AHEAD: u8 = 2;

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As one of many: a host may go on writing.
    Shared,
    /// Without locks, its write-ahead log with it: nobody writes, and nothing can be written.
    Alone,
    /// As a file that does not change and has no write-ahead log.
    Frozen,
}

/// The file of a database that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evidence {
    path: PathBuf,
    mode: Mode,
    /// The database and its write-ahead log as they were.
    seen: [Option<Seen>; 2],
    pub(super) wal_missing: bool,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            length: found.len(),
            changed: (found.mtime(), found.mtime_nsec()),
        }
    }
}

fn look(path: &Path) -> [Option<Seen>; 2] {
    let seen = |path: &Path| Some(Seen::of(&fs::metadata(path).ok()?));
    [seen(path), seen(&beside(path, "-wal"))]
}

/// Opens it for so many who read at a time.
pub(super) async fn open(path: &Path, readers: u32) -> Result<(SqlitePool, Evidence), ReadError> {
    if !path.is_file() {
        return Err(ReadError::NoFile(path.to_owned()));
    }
    let failed = |error| ReadError::File(path.to_owned(), error);
    let seen = look(path);
    let filled = |name| fs::metadata(beside(path, name)).is_ok_and(|found| found.len() > 0);
    let (wal, journal) = (filled("-wal"), filled("-journal"));
    let in_use = beside(path, "-shm").exists();
    let write_ahead = is_write_ahead(path).map_err(|error| failed(sqlx::Error::Io(error)))?;
    // A host that ends in order leaves another mode in the header: one that says so and has no log was copied without it.
    let wal_missing = write_ahead && !wal && !in_use;
    let mut mode = if wal_missing { Mode::Frozen } else { Mode::Shared };
    let mut opened = connect(path, mode, readers).await;
    if let Err(error) = &opened
        && cannot_write(error)
        && !in_use
        && !journal
    {
        mode = if wal { Mode::Alone } else { Mode::Frozen };
        opened = connect(path, mode, readers).await;
    }
    let evidence = Evidence {
        path: path.to_owned(),
        mode,
        seen,
        wal_missing,
    };
    Ok((opened.map_err(failed)?, evidence))
}

impl Evidence {
    /// An error if a database that was read as one that does not change did.
    pub(super) fn still_is(&self) -> Result<(), ReadError> {
        if self.mode == Mode::Shared || look(&self.path) == self.seen {
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
        // Who has a database alone keeps the index of its write-ahead log in memory; this VFS takes no locks, which a
        // file that can only be read would refuse.
        Mode::Alone => options
            .vfs("unix-none")
            .locking_mode(SqliteLockingMode::Exclusive),
        Mode::Frozen => options.immutable(true),
    };
    let pool = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(REACHED_WITHIN)
        .connect_with(options)
        .await?;
    // SQLite opens its files when it first reads.
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

fn is_write_ahead(path: &Path) -> io::Result<bool> {
    let mut header = [0; 20];
    match File::open(path)?.read_exact(&mut header) {
        // What is too short to be a database is for SQLite to refuse.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| header.ends_with(&[WRITE_AHEAD, WRITE_AHEAD])),
    }
}
