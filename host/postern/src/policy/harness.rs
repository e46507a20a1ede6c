//! A minimal policy host, which compiles and evaluates modules locally.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use postern_policy::{
    Cache, Capability, Compiler, Engines, EntrySettings, Grants, HostServices, Limits, Module, Policies,
    Settings, Source, Store, TestSigner,
};
use serde_json::Value;

use crate::COMPILER;

/// The number of bytes read of a module's file: one more than a module may have.
const MAX_MODULE_FILE_BYTES: u64 = (64 << 20) + 1;

/// Compiles and evaluates modules as the host does.
pub(super) struct Harness {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) engines: Engines,
    pub(super) services: HostServices,
    /// A module is inspected and then loaded; the cache avoids a second compilation.
    cache: Cache,
    _folder: tempfile::TempDir,
}

/// The settings of a module, as in an entry of the host's settings.
pub(super) struct Entry {
    pub(super) grants: Grants,
    pub(super) config: Value,
    pub(super) deadline: Duration,
}

impl Harness {
    /// Creates a harness for `instances` concurrent decisions.
    pub(super) fn new(instances: usize) -> Result<Self> {
        let cannot = "cannot set up the policy engine";
        let folder = tempfile::tempdir().context(cannot)?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context(cannot)?,
            engines: Engines::new(instances, Limits::default().memory)
                .map_err(|error| anyhow!("{error:#}"))
                .context(cannot)?
                .with_compiler(Compiler::current_exe(COMPILER)),
            services: HostServices {
                store: Store::Memory,
                client: postern_policy::http_client().context(cannot)?,
                signer: Some(Arc::new(TestSigner)),
            },
            // A folder of its own, created with permissions that exclude other users.
            cache: Cache::open(&folder.path().join("compiled")).context(cannot)?,
            _folder: folder,
        })
    }

    /// Reads and compiles the module in a file.
    pub(super) fn module(&self, path: &Path) -> Result<Module> {
        if path.is_dir() {
            bail!(
                "{} is a folder; name the module in it, or build it first with `postern policy build {}`",
                path.display(),
                path.display()
            );
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_MODULE_FILE_BYTES).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.compile(&bytes).with_context(|| path.display().to_string())
    }

    /// Compiles a module.
    pub(super) fn compile(&self, bytes: &[u8]) -> Result<Module> {
        Ok(Module::compile(&self.engines, Some(&self.cache), bytes)?)
    }

    /// Loads the module; it decides under the name [`module_name`].
    pub(super) fn load(&self, path: &Path, module: &Module, entry: Entry) -> Result<Policies> {
        ensure!(
            !module.required_capabilities().contains(&Capability::Http) || entry.grants.has(Capability::Http),
            "{} needs `http`: name the hosts that it may call with --grant http=api.example.com",
            path.display()
        );
        let name = module_name(path);
        let settings = Settings {
            directory: std::env::current_dir().context("the working directory is gone")?,
            entries: [(
                name.clone(),
                EntrySettings {
                    source: Source::File {
                        module: path.to_owned(),
                        digest: Some(module.digest()),
                        cases: None,
                    },
                    grants: entry.grants,
                    config: entry.config,
                    limits: Limits {
                        deadline: entry.deadline,
                        ..Limits::default()
                    },
                },
            )]
            .into(),
            ..Settings::default()
        };
        let policies = Policies::new(
            self.engines.clone(),
            Some(self.cache.clone()),
            self.services.clone(),
            settings,
        );
        let report = self.runtime.block_on(policies.load());
        if let Some((_, error)) = report.errors().next() {
            bail!("{error}");
        }
        Ok(policies)
    }
}

/// The name of a module: that of its file, without the extension.
pub(super) fn module_name(path: &Path) -> String {
    path.file_stem()
        .map_or_else(|| "policy".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
