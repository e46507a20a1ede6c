//! `--use`: what a signer's signatures count for.

use postern_signers::{Use, Uses};

/// What the signatures are for.
// Without a group: each struct of arguments would make one of its own.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct SignerUses {
    /// What its signatures count for: payload, manifest, checkpoint, rotation; several with commas. A key for each use is
    /// the safe way: what it signs cannot be taken for something else
    #[arg(long = "use", value_name = "USE", value_delimiter = ',', default_value = "payload", value_parser = one)]
    uses: Vec<Use>,
}

impl SignerUses {
    /// The uses.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.iter().copied().collect()
    }
}

fn one(text: &str) -> Result<Use, String> {
    Use::of(text).ok_or_else(|| "there are payload, manifest, checkpoint and rotation".to_owned())
}
