//! The trusted references that a log is verified against.

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

/// References out of reach of anyone who can change the log.
#[derive(Debug, clap::Args)]
pub(super) struct ReferenceArgs {
    /// The registry of signers; without it, checkpoint signatures are not verified
    #[arg(long, value_name = "SIGNERS.toml")]
    signers: Option<PathBuf>,
    /// The checkpoint file that is kept outside the store
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// A head that was kept, as `postern audit head` prints it; repeatable
    #[arg(long = "head", value_name = "SIZE:HASH")]
    heads: Vec<TrustedHead>,
    /// The name of the log, which its checkpoints must carry
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Require that a signed checkpoint or a head covers every event
    #[arg(long)]
    require_covered: bool,
    /// The maximum age of the newest signed checkpoint: 10m, 1h
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    max_age: Option<Duration>,
}

/// A host writes a checkpoint to the store first and to the file right after.
const FILE_LAG: Duration = Duration::from_secs(2);

impl ReferenceArgs {
    /// What must be proven for success.
    pub(super) fn requirements(&self) -> Requirements {
        Requirements {
            covered: self.require_covered,
            max_age: self.max_age,
        }
    }

    /// Reads the references for a log that may be written to meanwhile. The checkpoint file is read before the log:
    /// checkpoints that are added later cover events that are not verified. The size of the log's newest checkpoint is
    /// read before both: the file must contain that checkpoint.
    pub(super) fn read_beside(&self, runtime: &Runtime, reader: &Reader) -> Result<TrustedReferences> {
        let stored = runtime.block_on(reader.last_note())?.map_or(0, |note| note.size);
        let mut references = self.read()?;
        let lags = |references: &TrustedReferences| {
            references
                .checkpoint_file_report()
                .is_some_and(|file| file.last_size() < stored)
        };
        // Anything but a regular file, such as a pipe, can be read only once.
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
