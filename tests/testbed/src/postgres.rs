//! A Postgres server as a child process.
//!
//! It uses the programs of the system's packages and its own data folder, listens on a Unix socket in that folder and on
//! a free port of the loopback address, and syncs commits to disk. Postgres refuses to run as root, so as root it is run
//! as the user `postgres`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports;

/// How long a start may take, including the recovery after a kill.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a stop may take before the process is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Where Debian installs the programs, by version; they are not on PATH.
const PACKAGES: &str = "/usr/lib/postgresql";
/// The user that runs Postgres if this process runs as root.
const USER: &str = "postgres";

/// Postgres did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are missing.
    #[error(
        "no `initdb` and `postgres` on PATH or in {PACKAGES}: run `cargo xtask setup` or install postgresql"
    )]
    NotInstalled,
    /// A file or process operation failed.
    #[error("cannot use the folder of Postgres or run its programs: {0}")]
    Io(#[from] io::Error),
    /// A program failed.
    #[error("{program} failed. The end of its output:\n{log}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// The last lines of its output.
        log: String,
    },
}

/// A running Postgres. Dropping it stops the server and removes the data.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Creates an empty database and serves it.
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
        postgres.initialise()?;
        postgres.restart()?;
        Ok(postgres)
    }

    /// The URL of the database, over TCP.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// Kills all processes with SIGKILL. Committed data remains.
    ///
    /// # Errors
    ///
    /// When the server process cannot be killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let workers = children(server.id());
        server.kill()?;
        server.wait()?;
        // The other processes of a server exit once they notice its death, and may serve clients until then.
        for worker in workers {
            // It fails if the process has already exited.
            let _ = Command::new("kill")
                .args(["-KILL", &worker])
                .stderr(Stdio::null())
                .status();
        }
        Ok(())
    }

    /// Starts the server again at the same URL, after [`Postgres::kill`].
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_DEADLINE;
        // A start fails as long as processes of a killed server are still exiting, so it is retried. The server itself
        // handles the stale socket and PID file.
        loop {
            self.server = Some(self.spawn()?);
            loop {
                if self.is_ready() {
                    return Ok(());
                }
                if self.has_exited()? {
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

    fn initialise(&self) -> Result<(), Error> {
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

    fn spawn(&self) -> Result<Child, Error> {
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

    /// A command for one of the programs, not as root, with its output in the log.
    fn program(&self, name: &str) -> Result<Command, Error> {
        let program = self.programs.join(name);
        let log = self.folder.path().join("log");
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = if is_root(Path::new("/proc/self"))? {
            // setpriv replaces itself by the program, so the child process is the server.
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

    fn is_ready(&self) -> bool {
        let Ok(mut ready) = self.program("pg_isready") else {
            return false;
        };
        let ready = ready
            .args(["-q", "-h", "127.0.0.1", "-p"])
            .arg(self.port.to_string())
            .status();
        ready.is_ok_and(|status| status.success())
    }

    fn has_exited(&mut self) -> Result<bool, Error> {
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
        let end = lines.split_at(lines.len().saturating_sub(20)).1.join("\n");
        Error::Failed { program, log: end }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        // On SIGQUIT it stops its other processes too, so that none writes while the folder is removed.
        let signalled = Command::new("kill")
            .args(["-QUIT", &server.id().to_string()])
            .status();
        let deadline = Instant::now() + STOP_DEADLINE;
        while signalled.is_ok() && Instant::now() < deadline && matches!(server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The data is removed in any case.
        let _ = self.kill();
    }
}

/// The ids of the child processes of a process.
fn children(process: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Whether root owns a path; `/proc/self` is owned by the user of this process.
fn is_root(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.uid() == 0)
}

/// The programs of the newest packaged Postgres, else those on PATH.
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
