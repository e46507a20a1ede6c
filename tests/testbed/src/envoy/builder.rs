//! Configures and starts an Envoy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Envoy, Error};

/// The configuration of an Envoy.
#[derive(Debug)]
#[must_use = "Envoy runs only after start()"]
pub struct Builder {
    binary: PathBuf,
    bootstrap: String,
    files: Vec<(String, String)>,
    concurrency: u32,
    env: Vec<(String, String)>,
    log_level: String,
    component_log_level: Option<String>,
    core: Option<usize>,
}

impl Builder {
    pub(super) fn new(binary: PathBuf, bootstrap: String) -> Self {
        Self {
            binary,
            bootstrap,
            files: Vec::new(),
            concurrency: 2,
            env: Vec::new(),
            log_level: "info".to_owned(),
            component_log_level: None,
            core: None,
        }
    }

    /// Adds a file beside the bootstrap, in which `{{FOLDER}}` is the folder of both.
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Sets the number of worker threads; 2 by default.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets an environment variable of Envoy, e.g. a secret that `host_env_keys` passes to the VM.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets `--log-level`; `info` by default.
    pub fn log_level(mut self, level: impl Into<String>) -> Self {
        self.log_level = level.into();
        self
    }

    /// Sets `--component-log-level`, e.g. `wasm:debug`.
    pub fn component_log_level(mut self, levels: impl Into<String>) -> Self {
        self.component_log_level = Some(levels.into());
        self
    }

    /// Pins all of Envoy's threads to one CPU core with `taskset`, for measurements.
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Starts Envoy and waits until it is ready for requests.
    ///
    /// # Errors
    ///
    /// When Envoy cannot be started, exits (the error contains the end of its log, with the errors in the
    /// configuration), or is not ready after a minute.
    pub fn start(self) -> Result<Envoy, Error> {
        let folder = TempDir::with_prefix("postern-envoy-")?;
        let log = folder.path().join("envoy.log");
        let bootstrap = self
            .bootstrap
            .replace("{{FOLDER}}", &folder.path().to_string_lossy());
        fs::write(folder.path().join("envoy.yaml"), bootstrap)?;
        for (name, text) in &self.files {
            fs::write(folder.path().join(name), text)?;
        }
        let output = File::create(&log)?;
        let mut command = self.command(folder.path());
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().map_err(|source| Error::Run {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        Envoy::from_child(child, folder, log)
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = match self.core {
            // taskset replaces itself by Envoy, so the id of the child process is Envoy's.
            Some(core) => {
                let mut taskset = Command::new("taskset");
                taskset.arg("--cpu-list").arg(core.to_string()).arg(&self.binary);
                taskset
            }
            None => Command::new(&self.binary),
        };
        command
            .arg("--config-path")
            .arg(folder.join("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(folder.join("admin"))
            .arg("--use-dynamic-base-id")
            .args(["--concurrency", &self.concurrency.to_string()])
            .args(["--log-level", &self.log_level])
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(levels) = &self.component_log_level {
            command.args(["--component-log-level", levels]);
        }
        command
    }
}
