//! Starting an Envoy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Envoy, Error};

/// What to start, and how.
#[derive(Debug)]
#[must_use = "nothing runs before start()"]
pub struct Builder {
    binary: PathBuf,
    bootstrap: String,
    files: Vec<(String, String)>,
    concurrency: u32,
    environment: Vec<(String, String)>,
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
            environment: Vec::new(),
            log_level: "info".to_owned(),
            component_log_level: None,
            core: None,
        }
    }

    /// A file beside the bootstrap, which finds it under `{{FOLDER}}`.
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// The number of worker threads; 2 unless set.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// An environment variable for Envoy, e.g. a secret that `host_env_keys` hands to the VM.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// `--log-level`; `info` unless set.
    pub fn log_level(mut self, level: impl Into<String>) -> Self {
        self.log_level = level.into();
        self
    }

    /// `--component-log-level`, e.g. `wasm:debug`.
    pub fn component_log_level(mut self, levels: impl Into<String>) -> Self {
        self.component_log_level = Some(levels.into());
        self
    }

    /// Keeps all of Envoy's threads on one processor core (through `taskset`), for measurements.
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Starts Envoy and waits until it is ready to take requests.
    ///
    /// # Errors
    ///
    /// When Envoy cannot be run, ends (it refused the configuration; the error holds what it said), or is not
    /// ready after a minute.
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
        Envoy::adopt(child, folder, log)
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = match self.core {
            // taskset replaces itself by Envoy, so the child's id is Envoy's.
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
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(levels) = &self.component_log_level {
            command.args(["--component-log-level", levels]);
        }
        command
    }
}
