//! A real Postgres for the time of a test.
//!
//! It runs from the system's packages, in a folder of its own, listens on a Unix socket there and on a free port of the
//! loopback address, and syncs what it commits. As root it runs as the user `postgres`, which it insists on.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports;

/// How long a start may take; after a kill it reads its log again.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Where Debian puts the programs, which are not on PATH, by version.
const PACKAGES: &str = "/usr/lib/postgresql";
/// The user that runs it if we are root.
const USER: &str = "postgres";

/// Postgres did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are missing.
    #[error(
        "no `initdb` and `postgres` on PATH or in {PACKAGES}: run `cargo xtask setup` or install postgresql"
    )]
    NotInstalled,
    /// Its folder cannot be used, or a program cannot be run.
    #[error("cannot use the folder of Postgres or run its programs: {0}")]
    Io(#[from] io::Error),
    /// A program failed.
    #[error("{program} failed. The end of what it said:\n{log}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// What it said.
        log: String,
    },
}

/// A running Postgres; ends with this value, and its data with it.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes an empty database and serves it.
    ///
    /// # Errors
    ///
    /// When Postgres is not installed or does not start.
    pub fn start() -> Result<Self, Error> {
        let programs = programs().ok_or(Error::NotInstalled)?;
        let folder = TempDir::with_prefix("postern-postgres-")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let mut postgres = Self {
            server: None,
            programs,
            port: ports::free_port()?,
            folder,
        };
        postgres.make()?;
        postgres.resume()?;
        Ok(postgres)
    }

    /// A URL of the database, over TCP.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// Kills it as a power cut would: at once, without a last word. What it had committed stays.
    ///
    /// # Errors
    ///
    /// When the process cannot be killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let others = children(server.id());
        server.kill()?;
        server.wait()?;
        // The other processes of a server notice that the first one is gone, but may answer before they do.
        for other in others {
            // It may have ended by now.
            let _ = Command::new("kill")
                .args(["-KILL", &other])
                .stderr(Stdio::null())
                .status();
        }
        Ok(())
    }

    /// Serves again after [`Postgres::kill`], at the same URL.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn resume(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_DEADLINE;
        // A killed server leaves the name of its socket and the number of its process behind; and its other
        // processes may hold the data for a moment, during which the next one does not start.
        loop {
            self.server = Some(self.run()?);
            loop {
                if self.answers() {
                    return Ok(());
                }
                if self.ended()? {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(self.failed("postgres"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if Instant::now() >= deadline {
                return Err(self.failed("postgres"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn make(&self) -> Result<(), Error> {
        if is_root(Path::new("/proc/self"))? {
            let status = Command::new("chown").arg(USER).arg(self.folder.path()).status()?;
            if !status.success() {
                return Err(Error::Failed {
                    program: "chown",
                    log: format!("there is no user {USER}"),
                });
            }
        }
        let mut initdb = self.program("initdb")?;
        let status = initdb
            .arg("--pgdata")
            .arg(self.data())
            .args([
                "--username",
                USER,
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg("--no-instructions")
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failed("initdb"))
        }
    }

    fn run(&self) -> Result<Child, Error> {
        let mut postgres = self.program("postgres")?;
        postgres
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=on"])
            .args(["-c", "max_connections=50", "-c", "shared_buffers=32MB"])
            .arg("-p")
            .arg(self.port.to_string())
            .arg("-k")
            .arg(self.folder.path());
        Ok(postgres.spawn()?)
    }

    /// A program that runs as the user that Postgres wants; what it says goes to the log.
    fn program(&self, name: &str) -> Result<Command, Error> {
        let program = self.programs.join(name);
        let log = self.folder.path().join("log");
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = if is_root(Path::new("/proc/self"))? {
            // It becomes the program, so that what is killed is the server and not a shell before it.
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", USER, "--regid", USER, "--init-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir(self.folder.path())
            .env_remove("PGDATA")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        Ok(command)
    }

    fn answers(&self) -> bool {
        let Ok(mut ready) = self.program("pg_isready") else {
            return false;
        };
        let ready = ready
            .args(["-q", "-h", "127.0.0.1", "-p"])
            .arg(self.port.to_string())
            .status();
        ready.is_ok_and(|status| status.success())
    }

    fn ended(&mut self) -> Result<bool, Error> {
        Ok(match &mut self.server {
            Some(server) => server.try_wait()?.is_some(),
            None => true,
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn failed(&self, program: &'static str) -> Error {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.split_at(lines.len().saturating_sub(20)).1.join("\n");
        Error::Failed { program, log: last }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        // Told to stop at once it stops its other processes too, so that none writes while the folder is removed.
        let told = Command::new("kill")
            .args(["-QUIT", &server.id().to_string()])
            .status();
        let deadline = Instant::now() + STOP_DEADLINE;
        while told.is_ok() && Instant::now() < deadline && matches!(server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nobody needs the data any more.
        let _ = self.kill();
    }
}

/// The processes that a process started.
fn children(process: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Whether a path belongs to root; `/proc/self` belongs to the user that asks.
fn is_root(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.uid() == 0)
}

/// The folder of the newest Postgres.
fn programs() -> Option<PathBuf> {
    let packages = fs::read_dir(PACKAGES).into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = packages
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    folders.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(std::env::split_paths(&on_path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}
