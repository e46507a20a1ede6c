//! `postern kms-proxy keygen`: generates a key in the token.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use postern_command::output::{Output, json};
use postern_command::signer_uses::SignerUses;
use postern_command::style::Style;
use postern_kms_proxy::settings::Token;
use postern_kms_proxy::token;
use postern_serve::variable;
use postern_signers::{Use, format_key, is_signer_id};
use serde::Serialize;

use super::report;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label kernel-2026\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label log-2026 --use checkpoint\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label log-2026 --use checkpoint --show\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label k7 --signer kernel-2026 --json | jq -r .public_key\n\n\
    Only `token` of the settings is used; signers may name keys that do not exist yet.")]
pub(super) struct Args {
    /// The proxy's settings file, YAML, which names the token
    #[arg(long, value_name = "KMS-PROXY.yaml")]
    config: PathBuf,
    /// The label of the key in the token; an existing key is never replaced
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// The id of the signer; defaults to the label
    #[arg(long, value_name = "ID")]
    signer: Option<String>,
    /// Generate nothing: print the output for an existing key again
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    uses: SignerUses,
    /// Print one JSON document: label, signer_id, uses, public_key, yaml, register
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct KeygenReport<'a> {
    label: &'a str,
    signer_id: &'a str,
    uses: Vec<&'static str>,
    public_key: &'a str,
    yaml: &'a str,
    register: &'a str,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let signer = args.signer.as_ref().unwrap_or(&args.label);
    ensure!(
        is_signer_id(signer),
        "a signer id has 1 to 128 letters, digits, `.`, `_`, `-`, `:` and `/`: set one with --signer"
    );
    let token = match Token::read(&args.config, &variable) {
        Ok(token) => token,
        Err(error) => return Ok(report::invalid(&args.config, &error)),
    };
    let key = if args.show {
        token::find(&token, &args.label).with_context(|| format!("cannot show the key \"{}\"", args.label))?
    } else {
        token::generate(&token, &args.label)
            .with_context(|| format!("cannot generate the key \"{}\"", args.label))?
    };
    let public_key = format_key(&key);
    let uses = args.uses.uses();
    // JSON strings are valid YAML, whatever the label contains.
    let yaml = format!(
        "signers: {{{}: {{label: {}, uses: [{uses}]}}}}",
        serde_json::to_string(signer)?,
        serde_json::to_string(&args.label)?
    );
    let names: Vec<_> = uses.iter().map(Use::name).collect();
    let register = format!(
        "postern signer add {signer} {public_key} --use {} --registry signers.toml",
        names.join(",")
    );
    if args.json {
        return Ok(Output::ok(json(&KeygenReport {
            label: &args.label,
            signer_id: signer,
            uses: names,
            public_key: &public_key,
            yaml: &yaml,
            register: &register,
        })?));
    }
    let style = Style::stdout();
    Ok(Output::ok(format!(
        "{} {public_key}\n\n{}\n{yaml}\n\n{}\n{register}\n",
        style.bold("The public key; the private key stays in the token:"),
        style.bold("In the proxy's settings:"),
        style.bold("To add the signer to a registry:"),
    )))
}
