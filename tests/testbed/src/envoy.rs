//! An Envoy as a child process.
//!
//! Listeners and the admin interface should bind port 0 in the bootstrap, so that concurrent tests do not collide.
//! [`Envoy::addr`] and [`Envoy::admin_addr`] return the ports in use.

mod admin;
mod binary;
mod builder;
mod log;
mod process;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use binary::{NotInstalled, binary, in_venv, installed_venv};
pub use builder::Builder;

/// How long a start may take. Most of it is the compilation of the Wasm module, and CI machines are slow.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long Envoy may take to exit before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Envoy cannot be started or queried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot be spawned.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its path.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be written or read.
    #[error("cannot use Envoy's temporary folder: {0}")]
    Files(#[from] io::Error),
    /// Envoy exited before it was ready, e.g. because it rejected the configuration.
    #[error("Envoy exited ({status}) before it was ready. The end of its log:\n{log}")]
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// Envoy runs, but is not ready in time.
    #[error("Envoy was not ready after {seconds} s. The end of its log:\n{log}")]
    NotReady {
        /// The time limit.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// The admin interface is unreachable or returned an error.
    #[error("Envoy's admin interface, {path}: {reason}")]
    Admin {
        /// The requested path.
        path: String,
        /// The status and body, or why there is none.
        reason: String,
    },
}

/// A running Envoy, killed on drop.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    folder: TempDir,
    log: PathBuf,
    admin: Option<SocketAddr>,
    listeners: Vec<(String, SocketAddr)>,
}

impl Envoy {
    /// A builder of an Envoy with this bootstrap configuration (YAML without placeholders, except `{{FOLDER}}`).
    pub fn builder(binary: impl Into<PathBuf>, bootstrap: impl Into<String>) -> Builder {
        Builder::new(binary.into(), bootstrap.into())
    }

    /// Wraps a process that was just spawned, and waits until it is ready.
    fn from_child(child: Child, folder: TempDir, log: PathBuf) -> Result<Self, Error> {
        let mut envoy = Self {
            child,
            folder,
            log,
            admin: None,
            listeners: Vec::new(),
        };
        envoy.wait_until_ready()?;
        envoy.listeners = admin::listeners(&envoy)?;
        Ok(envoy)
    }

    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::Exited {
                    status,
                    log: self.last_log_lines(),
                });
            }
            // Envoy writes this file when its admin interface listens.
            if self.admin.is_none() {
                let written = fs::read_to_string(self.folder.path().join("admin")).unwrap_or_default();
                self.admin = written.trim().parse().ok();
            }
            if self.admin.is_some() && self.admin_get("/ready").is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let seconds = START_DEADLINE.as_secs();
                return Err(Error::NotReady {
                    seconds,
                    log: self.last_log_lines(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of the first listener.
    ///
    /// The unspecified address and port 0 if the bootstrap has no TCP listener.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listeners
            .first()
            .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |(_, addr)| *addr)
    }

    /// The address of the listener with this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, addr)| *addr)
    }

    /// A URL on the first listener; `path` starts with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// The address of the admin interface.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// GETs a path of the admin interface and returns the body.
    ///
    /// # Errors
    ///
    /// When there is no response, or its status is not 200.
    pub fn admin_get(&self, path: &str) -> Result<String, Error> {
        admin::call(self.admin, admin::Method::Get, path)
    }

    /// POSTs to a path that changes Envoy's state (`/logging?wasm=debug`, `/reset_counters`), and returns the body.
    ///
    /// # Errors
    ///
    /// When there is no response, or its status is not 200.
    pub fn admin_post(&self, path: &str) -> Result<String, Error> {
        admin::call(self.admin, admin::Method::Post, path)
    }

    /// The value of a counter or gauge; `None` until Envoy has created it.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stats("")
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// All counters and gauges whose name starts with `prefix`; empty if Envoy does not respond.
    #[must_use]
    pub fn stats(&self, prefix: &str) -> Vec<(String, u64)> {
        let text = self.admin_get("/stats").unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// Replaces a file beside the bootstrap by an atomic rename, which triggers watches.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text)?;
        fs::rename(new, self.folder.path().join(name))
    }

    /// Its standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file of [`Self::log`].
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    fn last_log_lines(&self) -> String {
        log::last_problems(&self.log())
    }

    /// The CPU time used so far, user and system, of all threads.
    ///
    /// # Errors
    ///
    /// When the process has exited, or the system has no `/proc`.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        process::cpu_seconds(self.pid())
    }

    /// The current resident set size.
    ///
    /// # Errors
    ///
    /// When the process has exited, or the system has no `/proc`.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        process::rss_bytes(self.pid())
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops Envoy through its admin interface, and kills it if it does not exit within 5 s. The log remains readable.
    pub fn stop(&mut self) {
        // It fails if Envoy has already exited.
        let _ = self.admin_post("/quitquitquit");
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests;
