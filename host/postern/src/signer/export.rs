//! `postern signer export`: prints a public key in a form that other programs read.

use anyhow::{Context as _, Result, anyhow};
use ed25519_compact::PublicKey;
use postern_signers::{format_key, parse_key};

use super::registry;
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer export kernel-2026 --registry signers.toml --pem > kernel-2026.pem\n  \
    postern signer export ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= --pem\n\n\
    OpenSSL verifies with the PEM file: openssl pkeyutl -verify -pubin -inkey kernel-2026.pem -rawin -in payload \
    -sigfile signature")]
pub(crate) struct Args {
    /// The signer's id in the registry, or a public key: ed25519: and 32 bytes in Base64
    #[arg(value_name = "ID or KEY")]
    signer: String,
    /// Print SubjectPublicKeyInfo in PEM (RFC 8410), as OpenSSL reads it, instead of ed25519: and Base64
    #[arg(long)]
    pem: bool,
    #[command(flatten)]
    registry: registry::Optional,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let key = key(args)?;
    Ok(Output::ok(if args.pem {
        format!("{}\n", key.to_pem().trim_end())
    } else {
        format!("{}\n", format_key(&key))
    }))
}

fn key(args: &Args) -> Result<PublicKey> {
    if args.signer.starts_with("ed25519:") {
        return parse_key(&args.signer).context("KEY");
    }
    let (name, registry) = args.registry.read()?;
    let signer = registry.get(&args.signer);
    let signer = signer.ok_or_else(|| anyhow!("{name} has no signer \"{}\"", args.signer))?;
    Ok(signer.key)
}
