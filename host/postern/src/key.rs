//! `postern key new`: generates an API key and its entry for `gate.yaml`.

use anyhow::{Result, ensure};
use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::output::{Output, json};
use crate::secrets::fill_random;
use crate::style::Style;
use crate::text::hex;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Generate a key of 256 random bits; it is printed once and not stored
    New(Args),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern key new --id ci --role Operator\n  \
    postern key new --id ci --json | jq -r .key > ci.key\n\n\
    Give the key to its holder. Put the printed line into gate.yaml under api_keys.<name>.keys; it contains only the \
    digest, which grants no access.")]
pub(crate) struct Args {
    /// The key's holder, used as the subject; derived from the digest by default
    #[arg(long)]
    id: Option<String>,
    /// A role of the holder; repeatable
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Print one JSON document: key, digest, yaml
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NewApiKey<'a> {
    id: &'a str,
    key: &'a str,
    digest: &'a str,
    roles: &'a [String],
    yaml: &'a str,
}

pub(crate) fn new(args: &Args) -> Result<Output> {
    ensure!(
        args.id.as_deref() != Some(""),
        "--id must not be empty: it becomes the subject"
    );
    let mut random = [0; 32];
    fill_random(&mut random)?;
    let key = format!("pk_{}", Base64UrlSafeNoPadding::encode_to_string(random)?);
    let digest = digest(&key);
    let id = args.id.clone().unwrap_or_else(|| default_id(&digest));
    let yaml = yaml(&id, &digest, &args.roles)?;
    if args.json {
        return Ok(Output::ok(json(&NewApiKey {
            id: &id,
            key: &key,
            digest: &digest,
            roles: &args.roles,
            yaml: &yaml,
        })?));
    }
    let style = Style::stdout();
    Ok(Output::ok(format!(
        "{}\n{key}\n\n{}\n{yaml}\n",
        style.bold("The API key, for its holder; it is not shown again:"),
        style.bold("In gate.yaml, under api_keys.<name>.keys:"),
    )))
}

/// The digest of a key, as `gate.yaml` lists it.
fn digest(key: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(key.as_bytes())))
}

fn default_id(digest: &str) -> String {
    let short: String = digest.chars().skip("sha256:".len()).take(8).collect();
    format!("key-{short}")
}

/// One line of YAML. JSON strings are valid YAML scalars, whatever they contain.
fn yaml(id: &str, digest: &str, roles: &[String]) -> Result<String> {
    let mut fields = format!("id: {}, digest: \"{digest}\"", serde_json::to_string(id)?);
    if !roles.is_empty() {
        let roles: Vec<String> = roles
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?;
        fields.push_str(&format!(", roles: [{}]", roles.join(", ")));
    }
    Ok(format!("- {{{fields}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_printed_line_is_valid_yaml_for_any_name() {
        let digest = digest("hello");
        assert_eq!(
            digest,
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(default_id(&digest), "key-2cf24dba");
        let line = yaml("a: \"b\", #c", &digest, &["yes".into(), "x]".into()]).unwrap();
        let parsed = crate::document::parse(&line).unwrap();
        assert_eq!(
            parsed,
            json!([{"id": "a: \"b\", #c", "digest": digest, "roles": ["yes", "x]"]}])
        );
    }
}
