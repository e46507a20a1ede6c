//! `postern key new`: an API key, and the line that lets its holder in.

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
    /// Make a key of 256 random bits; it is printed once and stored nowhere
    New(Args),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern key new --id ci --role Operator\n  \
    postern key new --id ci --json | jq -r .key > ci.key\n\n\
    The key goes to its holder. The line with the digest goes into gate.yaml under api_keys.<name>.keys; it gives \
    nobody access.")]
pub(crate) struct Args {
    /// Who holds the key; becomes the subject. Taken from the digest unless given
    #[arg(long)]
    id: Option<String>,
    /// What the holder may do; may be given several times
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
        style.bold("The key, for its holder; it is not shown again:"),
        style.bold("In gate.yaml, under api_keys.<name>.keys:"),
    )))
}

/// How a key stands in `gate.yaml`.
fn digest(key: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(key.as_bytes())))
}

fn default_id(digest: &str) -> String {
    let short: String = digest.chars().skip("sha256:".len()).take(8).collect();
    format!("key-{short}")
}

/// A line of YAML. JSON's quotes are YAML's too, whatever the text.
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
    fn the_line_is_yaml_whatever_the_names() {
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
