//! What a log is held against.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postern_audit::read::Reader;
use postern_audit::verify::{Requirements, TrustedHead, TrustedReferences};
use postern_signers::Registry;
use tokio::runtime::Runtime;

use crate::time;

/// What nobody who changed the log could reach.
#[derive(Debug, clap::Args)]
pub(super) struct ReferenceArgs {
    /// The registry of signers; without it, the signatures of checkpoints are not verified
    #[arg(long, value_name = "SIGNERS.toml")]
    signers: Option<PathBuf>,
    /// The file of checkpoints that is kept outside the store
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// A head that was written down, as `postern audit head` prints it; may be given several times
    #[arg(long = "head", value_name = "SIZE:HASH")]
    heads: Vec<TrustedHead>,
    /// The name of the log, as its checkpoints must have it
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Every event must be covered by a signed checkpoint or a head, up to the last
    #[arg(long)]
    require_covered: bool,
    /// The newest signed checkpoint must not be older than this: 10m, 1h
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    max_age: Option<Duration>,
}

/// A host puts a checkpoint into the store first and into the file right after.
const FILE_LAG: Duration = Duration::from_secs(2);

impl ReferenceArgs {
    /// What must be proven for success.
    pub(super) fn requirements(&self) -> Requirements {
        Requirements {
            covered: self.require_covered,
            max_age: self.max_age,
        }
    }

    /// All of it, for a log that may be written to meanwhile. The file outside is read before the log: what is added to it
    /// later is of events that are not looked at. The log's newest checkpoint before both: the file must have it.
    pub(super) fn read_beside(&self, runtime: &Runtime, reader: &Reader) -> Result<TrustedReferences> {
        let stored = runtime.block_on(reader.last_note())?.map_or(0, |note| note.size);
        let mut references = self.read()?;
        let lags = |references: &TrustedReferences| {
            references
                .checkpoint_file_report()
                .is_some_and(|file| file.last_size() < stored)
        };
        // What is no file, such as a pipe, can be read once.
        if lags(&references) && self.checkpoints.as_deref().is_some_and(Path::is_file) {
            sleep(FILE_LAG);
            references = self.read()?;
        }
        Ok(references.stored_checkpoint_size(stored))
    }

    pub(super) fn read(&self) -> Result<TrustedReferences> {
        let mut references = TrustedReferences::none();
        if let Some(file) = &self.signers {
            references = references.signers(Registry::read(file)?);
        }
        if let Some(origin) = &self.origin {
            references = references.origin(origin);
        }
        for head in &self.heads {
            references = references.head(*head);
        }
        if let Some(path) = &self.checkpoints {
            let cannot = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(cannot)?;
            references = references
                .checkpoint_file(BufReader::new(file))
                .with_context(cannot)?;
        }
        Ok(references)
    }
}
