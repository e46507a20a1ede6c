//! `postern token mint`: mints tokens for development, signed with local keys.

mod claims;
mod signing_key;
mod store;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{Exit, Output, json as as_json};
use crate::style::Style;
use crate::time;
use claims::ClaimOptions;
use signing_key::{Algorithm, SigningKey};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Mint a token for development, signed with a local key
    Mint(Args),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For development and tests only: the holder of the key file can impersonate any caller of a gate that trusts it.\n\n\
    Examples:\n  \
    postern token mint --issuer https://idp.example --audience orders --subject alice \\\n    \
    --role Admin --roles-claim realm_access.roles --key dev.jwk --jwks-out jwks.json > token\n  \
    postern try gate.yaml /admin/users -H \"authorization: Bearer $(cat token)\" --jwks demo=jwks.json\n  \
    postern token mint --issuer i --audience a --subject s --claim exp=1 --json     an expired token"
)]
pub(crate) struct Args {
    /// The `iss` claim
    #[arg(long, value_name = "ISS")]
    issuer: String,
    /// The `aud` claim; repeatable, for a list
    #[arg(long, value_name = "AUD", required = true)]
    audience: Vec<String>,
    /// The `sub` claim
    #[arg(long, value_name = "SUB")]
    subject: String,
    /// A role of the caller; repeatable
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The path of the claim that holds the roles
    #[arg(long, value_name = "PATH", default_value = "roles")]
    roles_claim: String,
    /// A further claim, or another value for one of the above: NAME=JSON or NAME=TEXT; null removes it; repeatable
    #[arg(long = "claim", value_name = "NAME=JSON", value_parser = claims::parse)]
    claims: Vec<(String, Value)>,
    /// How long the token is valid
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = time::duration)]
    ttl: Duration,
    /// The signature algorithm; by default that of the key file, or RS256
    #[arg(long, value_enum)]
    algorithm: Option<Algorithm>,
    /// The private key, JWK or PEM; created, readable only by you, if the file does not exist
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// Write the public key here, as the JSON Web Key Set that a gate verifies with
    #[arg(long, value_name = "FILE")]
    jwks_out: Option<String>,
    /// Print one JSON document: token, claims, jwks
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Minted<'a> {
    token: &'a str,
    algorithm: &'a str,
    claims: &'a Value,
    jwks: &'a Value,
}

pub(crate) fn mint(args: &Args) -> Result<Output> {
    let key = match &args.key {
        Some(file) => store::read_or_generate(file, args.algorithm)?,
        None => SigningKey::generate(args.algorithm.unwrap_or(Algorithm::Rs256))?,
    };
    let claims = claims::build(&ClaimOptions {
        issuer: &args.issuer,
        audience: &args.audience,
        subject: &args.subject,
        roles: &args.roles,
        roles_claim: &args.roles_claim,
        more: &args.claims,
        now: time::now(),
        ttl: args.ttl,
    });
    let token = key.sign(&claims)?;
    let jwks = json!({ "keys": [key.public_jwk()?] });
    if let Some(file) = &args.jwks_out {
        std::fs::write(file, as_json(&jwks)?).with_context(|| format!("cannot write {file}"))?;
    }
    if args.json {
        let claims = Value::Object(claims);
        return Ok(Output::ok(as_json(&Minted {
            token: &token,
            algorithm: key.algorithm().name(),
            claims: &claims,
            jwks: &jwks,
        })?));
    }
    let lost = args.key.is_none() && args.jwks_out.is_none();
    let err = if lost {
        let head = Style::stderr().warning("warning:");
        format!(
            "{head} this token cannot be verified: its key was discarded; pass --jwks-out FILE, --key FILE or --json\n"
        )
    } else {
        String::new()
    };
    Ok(Output {
        out: format!("{token}\n"),
        err,
        exit: Exit::Allowed,
    })
}

impl ValueEnum for Algorithm {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Rs256, Self::Es256, Self::EdDsa]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}
