//! The policy host, `postern serve`, as a process of its own that can be killed and brought back.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{paths, ports};

const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files or processes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no binary.
    #[error("no postern at {0}; run `cargo xtask build`, or set POSTERN_BIN")]
    NotBuilt(String),
    /// It ended instead of serving.
    #[error("the policy host ended instead of serving:\n{0}")]
    Exited(String),
    /// It does not serve.
    #[error("the policy host does not serve after a minute:\n{0}")]
    Late(String),
    /// Its administration did not answer as expected.
    #[error("the policy host's {path}: {reason}")]
    Admin {
        /// What was asked.
        path: String,
        /// What came instead.
        reason: String,
    },
}

/// The binary: `POSTERN_BIN`, else the one that cargo built for tests.
///
/// # Errors
///
/// When it is not there.
pub fn binary() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("POSTERN_BIN").filter(|value| !value.is_empty()) {
        Some(set) => PathBuf::from(set),
        None => paths::target().join("debug").join("postern"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NotBuilt(path.display().to_string()))
    }
}

/// A policy host on a free port of the loopback address, with a folder of its own for its modules.
#[derive(Debug)]
pub struct PolicyHost {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    folder: TempDir,
    addr: SocketAddr,
    child: Option<Child>,
}

impl PolicyHost {
    /// Starts `postern serve` of this binary with these `policies` (as in `host.yaml`) and waits until it is ready.
    /// Files that they name are put into the host's folder by `prepare` first.
    ///
    /// # Errors
    ///
    /// When it cannot be run, refuses its settings, or is not ready after a minute.
    pub fn start(
        binary: PathBuf,
        policies: &Value,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, Error> {
        Self::start_with(binary, &json!({ "policies": policies }), &[], prepare)
    }

    /// As [`PolicyHost::start`], with whole settings but for `listen` and `admin`, and an environment.
    ///
    /// # Errors
    ///
    /// As [`PolicyHost::start`].
    pub fn start_with(
        binary: PathBuf,
        settings: &Value,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let folder = TempDir::with_prefix("postern-host-")?;
        prepare(folder.path())?;
        let addr = SocketAddr::from(([127, 0, 0, 1], ports::free_port()?));
        let mut settings = settings.clone();
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("listen".to_owned(), json!([addr.to_string(), "unix:host.sock"]));
            settings.insert("admin".to_owned(), json!({"listen": "unix:admin.sock"}));
        }
        // JSON is YAML.
        fs::write(folder.path().join("host.yaml"), settings.to_string())?;
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut host = Self {
            binary,
            environment: environment.iter().map(owned).collect(),
            folder,
            addr,
            child: None,
        };
        host.restart()?;
        Ok(host)
    }

    /// Starts it again on the same port, after [`PolicyHost::kill`].
    ///
    /// # Errors
    ///
    /// As [`PolicyHost::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        let child = self.spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + START_DEADLINE;
        while self.admin("GET", "/readyz").is_err() {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                return Err(Error::Exited(self.log()));
            }
            if Instant::now() > deadline {
                return Err(Error::Late(self.log()));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        Command::new(&self.binary)
            .arg("serve")
            .arg("--config")
            .arg(self.folder.path().join("host.yaml"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// As [`PolicyHost::restart`], for one that serves and is not ready: what its `/readyz` says.
    ///
    /// # Errors
    ///
    /// When it is ready, or does not serve.
    pub fn restart_unready(&mut self) -> Result<String, Error> {
        let child = self.spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.admin("GET", "/readyz") {
                Err(Error::Admin { reason, .. }) if reason.starts_with("503 ") => return Ok(reason),
                Ok(ready) => return Err(Error::Exited(ready)),
                Err(_) if Instant::now() > deadline => return Err(Error::Late(self.log())),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Sends it a signal, by its name without `SIG`.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            Command::new("kill").args(["-s", name, &id]).status()?;
        }
        Ok(())
    }

    /// Ends it as `kill -9` does: without a word.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it stop as an operator does, and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be told to.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(child.id().to_string()).status()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Has it read its settings again.
    ///
    /// # Errors
    ///
    /// When it does not run, or cannot be told to.
    pub fn reload(&self) -> io::Result<()> {
        let gone = || io::Error::other("the policy host does not run");
        let id = self.child.as_ref().ok_or_else(gone)?.id();
        let status = Command::new("kill").arg("-HUP").arg(id.to_string()).status()?;
        if status.success() { Ok(()) } else { Err(gone()) }
    }

    /// Where gates reach it over TCP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where gates reach it over a Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("host.sock")
    }

    /// Where its administration is.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// The folder of its modules.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Puts a file into its folder as an installer does: whole, or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn install(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let aside = self.folder.path().join(format!(".{name}.new"));
        fs::write(&aside, bytes)?;
        fs::rename(aside, self.folder.path().join(name))
    }

    /// Asks its administration; the body of a 2xx.
    ///
    /// # Errors
    ///
    /// When it does not answer, or otherwise than with 2xx.
    pub fn admin(&self, method: &str, path: &str) -> Result<String, Error> {
        let socket = self.admin_socket();
        let answer = std::thread::scope(|scope| scope.spawn(|| ask(&socket, method, path)).join());
        let failed = |reason: String| Error::Admin {
            path: path.to_owned(),
            reason,
        };
        match answer {
            Ok(Ok((status, body))) if (200..300).contains(&status) => Ok(body),
            Ok(Ok((status, body))) => Err(failed(format!("{status} {body}"))),
            Ok(Err(reason)) => Err(failed(reason)),
            Err(_) => Err(failed("the client's thread panicked".to_owned())),
        }
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the policy host's log:\n{}", self.log());
        }
    }
}

/// On a runtime of its own, so that it may be called from asynchronous and other code alike.
fn ask(socket: &Path, method: &str, path: &str) -> Result<(u16, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let method = method.parse().map_err(|_| format!("{method} is no method"))?;
    let answer = async {
        let client = crate::http::builder()
            .unix_socket(socket)
            .timeout(Duration::from_secs(30))
            .build()?;
        let response = client
            .request(method, format!("http://admin{path}"))
            .send()
            .await?;
        Ok((response.status().as_u16(), response.text().await?))
    };
    runtime
        .block_on(answer)
        .map_err(|error: reqwest::Error| error.to_string())
}
