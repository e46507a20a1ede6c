//! What a log is held against.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use postern_audit::verify::{Against, KeptHead};
use postern_signers::Registry;

/// What nobody who changed the log could reach.
#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// The registry of signers; without it, the signatures of checkpoints are not verified
    #[arg(long, value_name = "SIGNERS.toml")]
    signers: Option<PathBuf>,
    /// The file of checkpoints that is kept outside the store
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// A head that was written down, as `postern audit head` prints it; may be given several times
    #[arg(long = "head", value_name = "SIZE:HASH")]
    heads: Vec<KeptHead>,
    /// The name of the log, as its checkpoints must have it
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
}

impl Given {
    pub(super) fn read(&self) -> Result<Against> {
        let mut against = Against::nothing();
        if let Some(file) = &self.signers {
            against = against.signers(Registry::read(file)?);
        }
        if let Some(origin) = &self.origin {
            against = against.origin(origin);
        }
        for head in &self.heads {
            against = against.head(*head);
        }
        if let Some(path) = &self.checkpoints {
            let cannot = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(cannot)?;
            against = against.outside(BufReader::new(file)).with_context(cannot)?;
        }
        Ok(against)
    }
}
