//! A real Envoy for the time of a test.
//!
//! Let listeners and the admin interface bind port 0 in the bootstrap: [`Envoy::addr`] and
//! [`Envoy::admin_addr`] tell the ports they got, and tests that run at the same time never collide.

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

/// How long a start may take. Compiling the wasm module is the longest part, and machines for CI are slow.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long Envoy may take to stop when asked to, before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Envoy did not start, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// What was to be run.
        program: String,
        /// Why it could not be.
        source: io::Error,
    },
    /// A file of the run could not be written or read.
    #[error("cannot use Envoy's temporary folder: {0}")]
    Files(#[from] io::Error),
    /// Envoy ended before it was ready: it refused the configuration.
    #[error("Envoy ended ({status}) before it was ready. The end of its log:\n{log}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// Envoy runs, but did not become ready in time.
    #[error("Envoy was not ready after {seconds} s. The end of its log:\n{log}")]
    NotReady {
        /// The deadline that passed.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// The admin interface did not answer as expected.
    #[error("Envoy's admin interface, {path}: {reason}")]
    Admin {
        /// What was asked for.
        path: String,
        /// What came instead.
        reason: String,
    },
}

/// A running Envoy; ends with this value.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    folder: TempDir,
    log: PathBuf,
    admin: Option<SocketAddr>,
    listeners: Vec<(String, SocketAddr)>,
}

impl Envoy {
    /// An Envoy to be started from a bootstrap configuration (YAML, already filled in).
    pub fn builder(binary: impl Into<PathBuf>, bootstrap: impl Into<String>) -> Builder {
        Builder::new(binary.into(), bootstrap.into())
    }

    /// Takes charge of a process that has just begun, and waits until it is ready.
    fn adopt(child: Child, folder: TempDir, log: PathBuf) -> Result<Self, Error> {
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
            // Envoy writes this file once its admin interface listens.
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
    /// The unspecified address, port 0, if the bootstrap has no TCP listener.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listeners
            .first()
            .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |(_, addr)| *addr)
    }

    /// The address of the listener with that name.
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

    /// The body of a 200 from the admin interface.
    ///
    /// # Errors
    ///
    /// When it does not answer, or not with 200.
    pub fn admin_get(&self, path: &str) -> Result<String, Error> {
        admin::call(self.admin, admin::Verb::Get, path)
    }

    /// The same with POST, for what changes Envoy's state (`/logging?wasm=debug`, `/reset_counters`).
    ///
    /// # Errors
    ///
    /// When it does not answer, or not with 200.
    pub fn admin_post(&self, path: &str) -> Result<String, Error> {
        admin::call(self.admin, admin::Verb::Post, path)
    }

    /// A counter's or gauge's value; `None` while Envoy does not know the name.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stats("")
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Counters and gauges whose name begins with `prefix`; none if Envoy does not answer.
    #[must_use]
    pub fn stats(&self, prefix: &str) -> Vec<(String, u64)> {
        let text = self.admin_get("/stats").unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// Moves another file into the place of one beside the bootstrap: who watches it sees the whole of either.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text)?;
        fs::rename(new, self.folder.path().join(name))
    }

    /// Everything that Envoy wrote to its standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file behind [`Self::log`].
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    fn last_log_lines(&self) -> String {
        log::end(&self.log())
    }

    /// Processor time the process used so far, user and system, in all threads.
    ///
    /// # Errors
    ///
    /// When the process has ended, or the system has no `/proc`.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        process::cpu_seconds(self.pid())
    }

    /// The memory the process holds now (resident set).
    ///
    /// # Errors
    ///
    /// When the process has ended, or the system has no `/proc`.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        process::rss_bytes(self.pid())
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks Envoy to end, and kills it if it does not within 5 seconds. The log stays readable.
    pub fn stop(&mut self) {
        // An Envoy that ended already does not answer, which is as good.
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
