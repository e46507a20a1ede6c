//! `postern policy keygen`: generates a key that signs manifests.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use ed25519_compact::{KeyPair, Seed};
use serde::Serialize;

use super::{harness, signers};
use crate::output::{Output, json};
use crate::private_file;
use crate::secrets::fill_random;
use crate::style::Style;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy keygen ann.pem\n  \
    postern policy keygen keys/release.pem --signer release --json | jq -r .public_key\n\n\
    Keep the file private. Put the printed line into the host's settings: the host then accepts manifests that this key \
    signed.")]
pub(crate) struct Args {
    /// The file for the private key (Ed25519, PEM), readable only by you; an existing file is never replaced
    #[arg(value_name = "FILE.pem")]
    file: PathBuf,
    /// The name of the key in the host's settings; by default that of the file
    #[arg(long, value_name = "NAME")]
    signer: Option<String>,
    /// Print one JSON document: file, signer, public_key, yaml
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NewManifestKey<'a> {
    file: String,
    signer: &'a str,
    public_key: &'a str,
    yaml: &'a str,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let signer = args
        .signer
        .clone()
        .unwrap_or_else(|| harness::module_name(&args.file));
    ensure!(!signer.is_empty(), "--signer must not be empty");
    let mut seed = [0; Seed::BYTES];
    fill_random(&mut seed)?;
    let pair = KeyPair::from_seed(Seed::new(seed));
    let file = args.file.display();
    private_file::create(&args.file, &pair.sk.to_pem()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!("{file} already exists; a key is never replaced"),
        _ => anyhow!("cannot write {file}: {error}"),
    })?;

    let public_key = signers::format_key(&pair.pk);
    // A JSON string is a valid YAML scalar, whatever it contains.
    let yaml = format!(
        "signers: {{{}: \"{public_key}\"}}",
        serde_json::to_string(&signer)?
    );
    if args.json {
        return Ok(Output::ok(json(&NewManifestKey {
            file: file.to_string(),
            signer: &signer,
            public_key: &public_key,
            yaml: &yaml,
        })?));
    }
    let style = Style::stdout();
    Ok(Output::ok(format!(
        "{} {file}\n\n{}\n{yaml}\n",
        style.bold("The private key; keep it secret:"),
        style.bold("In the host's settings, under policies:"),
    )))
}
