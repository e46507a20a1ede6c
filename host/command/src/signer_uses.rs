//! The `--use` argument: what a signer's signatures are trusted for.

use postern_signers::{Use, Uses};

/// The uses of a signer.
// No group: each struct of arguments would otherwise create its own.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct SignerUses {
    /// What its signatures are trusted for: payload, manifest, checkpoint, rotation; separated by commas. Give each use
    /// its own key, so that a signature made for one use is never accepted for another
    #[arg(long = "use", value_name = "USE", value_delimiter = ',', default_value = "payload", value_parser = parse_use)]
    uses: Vec<Use>,
}

impl SignerUses {
    /// The uses that were given, or the default.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.iter().copied().collect()
    }
}

fn parse_use(text: &str) -> Result<Use, String> {
    Use::from_name(text)
        .ok_or_else(|| "unknown use: the uses are payload, manifest, checkpoint and rotation".to_owned())
}
