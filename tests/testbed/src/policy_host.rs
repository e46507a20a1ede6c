//! The policy host, `postern serve`, as a child process that can be killed and restarted.

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

/// The policy host cannot be started or administered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The binary does not exist.
    #[error("no postern at {0}; run `cargo xtask build`, or set POSTERN_BIN")]
    NotBuilt(String),
    /// The process exited before it was ready.
    #[error("the policy host exited before it was ready:\n{0}")]
    Exited(String),
    /// The process runs, but is not ready in time.
    #[error("the policy host is not ready after a minute:\n{0}")]
    NotReady(String),
    /// The admin interface is unreachable or returned an error.
    #[error("the admin interface of the policy host, {path}: {reason}")]
    Admin {
        /// The requested path.
        path: String,
        /// The status and body, or why there is none.
        reason: String,
    },
}

/// The binary: `POSTERN_BIN`, else the debug build.
///
/// # Errors
///
/// When it does not exist.
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

/// A policy host on a free port of the loopback address, with its own folder for configuration, modules and log.
#[derive(Debug)]
pub struct PolicyHost {
    binary: PathBuf,
    env: Vec<(String, String)>,
    folder: TempDir,
    addr: SocketAddr,
    child: Option<Child>,
}

impl PolicyHost {
    /// Starts `postern serve` with these `policies` (as in `host.yaml`) and waits until it is ready. `prepare` first
    /// writes the files that they name to the folder.
    ///
    /// # Errors
    ///
    /// When the process cannot be started, rejects its settings, or is not ready after a minute.
    pub fn start(
        binary: PathBuf,
        policies: &Value,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, Error> {
        Self::start_with(binary, &json!({ "policies": policies }), &[], prepare)
    }

    /// As [`PolicyHost::start`], with all settings except `listen` and `admin`, and with environment variables.
    ///
    /// # Errors
    ///
    /// As [`PolicyHost::start`].
    pub fn start_with(
        binary: PathBuf,
        settings: &Value,
        env: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, Error> {
        Self::start_in(Self::folder_for_later()?, binary, settings, env, prepare)
    }

    /// A folder for [`PolicyHost::start_in`]: its [socket](Self::socket_in) is known before the host starts.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn folder_for_later() -> io::Result<TempDir> {
        TempDir::with_prefix("postern-host-")
    }

    /// The Unix socket of a host in this folder.
    #[must_use]
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("host.sock")
    }

    /// As [`PolicyHost::start_with`], in this folder.
    ///
    /// # Errors
    ///
    /// As [`PolicyHost::start`].
    pub fn start_in(
        folder: TempDir,
        binary: PathBuf,
        settings: &Value,
        env: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, Error> {
        prepare(folder.path())?;
        let addr = SocketAddr::from(([127, 0, 0, 1], ports::free_port()?));
        let mut settings = settings.clone();
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("listen".to_owned(), json!([addr.to_string(), "unix:host.sock"]));
            settings.insert("admin".to_owned(), json!({"listen": "unix:admin.sock"}));
        }
        // JSON is valid YAML.
        fs::write(folder.path().join("host.yaml"), settings.to_string())?;
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut host = Self {
            binary,
            env: env.iter().map(owned).collect(),
            folder,
            addr,
            child: None,
        };
        host.restart()?;
        Ok(host)
    }

    /// Starts the process again on the same port, after [`PolicyHost::kill`].
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
                return Err(Error::NotReady(self.log()));
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
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// As [`PolicyHost::restart`], for a host that serves without being ready. Returns the 503 of its `/readyz`.
    ///
    /// # Errors
    ///
    /// When the host is ready, or does not serve.
    pub fn restart_not_ready(&mut self) -> Result<String, Error> {
        let child = self.spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.admin("GET", "/readyz") {
                Err(Error::Admin { reason, .. }) if reason.starts_with("503 ") => return Ok(reason),
                Ok(ready) => return Err(Error::Exited(ready)),
                Err(_) if Instant::now() > deadline => return Err(Error::NotReady(self.log())),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            Command::new("kill").args(["-s", name, &id]).status()?;
        }
        Ok(())
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It fails if the process has already exited.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the process with SIGTERM and waits until it exits.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(child.id().to_string()).status()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Reloads its settings by SIGHUP.
    ///
    /// # Errors
    ///
    /// When the process does not run, or the signal cannot be sent.
    pub fn reload(&self) -> io::Result<()> {
        let not_running = || io::Error::other("the policy host does not run");
        let id = self.child.as_ref().ok_or_else(not_running)?.id();
        let status = Command::new("kill").arg("-HUP").arg(id.to_string()).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(not_running())
        }
    }

    /// The TCP address for gates.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The Unix socket for gates.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        Self::socket_in(self.folder.path())
    }

    /// The Unix socket of the admin interface.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// The folder of its configuration and modules.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its standard output and error so far, of all its processes.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Writes a file to its folder by an atomic rename.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn install(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.folder.path().join(format!(".{name}.new"));
        fs::write(&temporary, bytes)?;
        fs::rename(temporary, self.folder.path().join(name))
    }

    /// Sends a request to the admin interface and returns the body of the response.
    ///
    /// # Errors
    ///
    /// When there is no response, or its status is not 2xx.
    pub fn admin(&self, method: &str, path: &str) -> Result<String, Error> {
        let socket = self.admin_socket();
        let response =
            std::thread::scope(|scope| scope.spawn(|| send_admin_request(&socket, method, path)).join());
        let failed = |reason: String| Error::Admin {
            path: path.to_owned(),
            reason,
        };
        match response {
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

/// Runs on its own runtime, so that synchronous and asynchronous code can call it.
fn send_admin_request(socket: &Path, method: &str, path: &str) -> Result<(u16, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let method = method.parse().map_err(|_| format!("invalid method {method}"))?;
    let response = async {
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
        .block_on(response)
        .map_err(|error: reqwest::Error| error.to_string())
}
