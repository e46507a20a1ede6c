//! `--use`: what a signer's signatures count for.

use postern_signers::{Use, Uses};

/// What the signatures are for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What its signatures count for: payload, manifest, checkpoint, rotation; several with commas. A key for each use is
    /// the safe way: what it signs cannot be taken for something else
    #[arg(long = "use", value_name = "USE", value_delimiter = ',', default_value = "payload", value_parser = parse_use)]
    uses: Vec<Use>,
}

impl Args {
    pub(crate) fn uses(&self) -> Uses {
        self.uses.iter().copied().collect()
    }
}

fn parse_use(text: &str) -> Result<Use, String> {
    Use::from_name(text).ok_or_else(|| "there are payload, manifest, checkpoint and rotation".to_owned())
}
