//! `postern sign-request`: signs a request and prints the headers that authenticate it.

mod curl;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use hmac::{Hmac, KeyInit, Mac};
use postern_config::is_variable_name;
use postern_gate::string_to_sign;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::output::{Output, json};
use crate::secrets::{self, fill_random};
use crate::target::{self, Target};
use crate::text::hex;
use crate::{input, time};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern sign-request --scheme keyed --key-id partner --secret-env PARTNER_SECRET \\\n    \
    https://api.example/kernel/sign?dry=1 -d @order.json\n  \
    postern sign-request --scheme github --secret-env GITHUB_WEBHOOK_SECRET \\\n    \
    https://api.example/webhooks/github -d '{\"action\":\"opened\"}'\n\n\
    The keyed signature covers the method, target and body, and is valid within the gate's max_skew; GitHub's covers \
    the body alone.")]
pub(crate) struct Args {
    /// The signature scheme: `scheme` in gate.yaml
    #[arg(long, value_enum)]
    scheme: Scheme,
    /// The id of the signing key; for the keyed scheme
    #[arg(long, value_name = "ID", required_if_eq("scheme", "keyed"))]
    key_id: Option<String>,
    /// The environment variable that holds the secret
    #[arg(long, value_name = "VAR")]
    secret_env: String,
    /// The prefix of the keyed scheme's headers: `header_prefix` in gate.yaml
    #[arg(long, value_name = "PREFIX", default_value = "x-postern-auth-")]
    header_prefix: String,
    /// The method; GET, or POST with a body
    #[arg(short = 'X', long = "method", value_parser = target::method)]
    method: Option<String>,
    /// The URL of the request, with scheme and host
    #[arg(value_name = "URL")]
    url: String,
    /// The body: the text itself, @FILE, or @- for standard input
    #[arg(short = 'd', long = "data", value_name = "DATA|@FILE")]
    data: Option<String>,
    /// Print one JSON document: method, url, headers, curl
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheme {
    /// Signs method, path, query and body, with a key id, a timestamp and a nonce
    Keyed,
    /// Signs the body alone, as GitHub webhooks do
    Github,
}

#[derive(Serialize)]
struct SignedRequest<'a> {
    method: &'a str,
    url: &'a str,
    headers: Map<String, Value>,
    curl: &'a str,
}

/// A header's name and value.
type Header = (String, String);

pub(crate) fn run(args: &Args) -> Result<Output> {
    let target = Target::parse(&args.url).map_err(|why| anyhow!("the URL {why}"))?;
    ensure!(
        target.authority.is_some(),
        "the URL must include scheme and host, such as https://api.example{}",
        target.path_only()
    );
    let body = args.data.as_deref().map(input::body).transpose()?;
    let default = if body.is_some() { "POST" } else { "GET" };
    let method = args.method.as_deref().unwrap_or(default);
    let headers = headers(args, method, &target.path, body.as_deref().unwrap_or_default())?;
    let curl = curl::line(method, &args.url, &headers, args.data.as_deref());
    if args.json {
        let map = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()));
        return Ok(Output::ok(json(&SignedRequest {
            method,
            url: &args.url,
            headers: map.collect(),
            curl: &curl,
        })?));
    }
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    Ok(Output::ok(format!("{lines}\n{curl}\n")))
}

fn headers(args: &Args, method: &str, path: &str, body: &[u8]) -> Result<Vec<Header>> {
    ensure!(
        is_variable_name(&args.secret_env),
        "--secret-env takes the name of an environment variable, never the secret itself"
    );
    let secret = secrets::secret(&args.secret_env)
        .filter(|secret| !secret.is_empty())
        .with_context(|| format!("the variable of --secret-env, {}, is not set", args.secret_env))?;
    match (args.scheme, &args.key_id) {
        (Scheme::Github, None) => github(&secret, body),
        (Scheme::Github, Some(_)) => bail!("--key-id is for the keyed scheme; GitHub's has no key ids"),
        (Scheme::Keyed, None) => bail!("the keyed scheme needs --key-id"),
        (Scheme::Keyed, Some(key_id)) => {
            let mut nonce = [0; 16];
            fill_random(&mut nonce)?;
            let params = KeyedParams {
                prefix: &args.header_prefix.to_ascii_lowercase(),
                key_id,
                timestamp: time::now().as_secs(),
                nonce: &hex(&nonce),
            };
            keyed(&params, &secret, method, path, body)
        }
    }
}

/// The parameters of a keyed signature that are sent beside it.
struct KeyedParams<'a> {
    prefix: &'a str,
    key_id: &'a str,
    timestamp: u64,
    nonce: &'a str,
}

fn keyed(
    params: &KeyedParams<'_>,
    secret: &[u8],
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Vec<Header>> {
    let digest = Sha256::digest(body).into();
    let text = string_to_sign(method, path, params.timestamp, params.nonce, &digest);
    let header = |name: &str, value: String| (format!("{}{name}", params.prefix), value);
    Ok(vec![
        header("key-id", params.key_id.to_owned()),
        header("timestamp", params.timestamp.to_string()),
        header("nonce", params.nonce.to_owned()),
        header("signature", hmac_sha256(secret, text.as_bytes())?),
    ])
}

fn github(secret: &[u8], body: &[u8]) -> Result<Vec<Header>> {
    let value = format!("sha256={}", hmac_sha256(secret, body)?);
    Ok(vec![("x-hub-signature-256".to_owned(), value)])
}

/// HMAC-SHA-256 in lower-case hexadecimal.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> Result<String> {
    let mac =
        Hmac::<Sha256>::new_from_slice(secret).map_err(|_| anyhow!("the secret cannot be used as a key"))?;
    Ok(hex(&mac.chain_update(message).finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in GitHub's documentation, "Validating webhook deliveries".
    #[test]
    fn the_example_of_githubs_documentation_is_reproduced() {
        let headers = github(b"It's a Secret to Everybody", b"Hello, World!").unwrap();
        let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(headers, [("x-hub-signature-256".to_owned(), value.to_owned())]);
    }

    #[test]
    fn a_keyed_signature_covers_method_target_and_body() {
        let params = KeyedParams {
            prefix: "x-",
            key_id: "k",
            timestamp: 1_767_225_600,
            nonce: "5f1d3a7c9be04d21",
        };
        let sign = |method, path, body: &[u8]| keyed(&params, b"secret", method, path, body).unwrap();
        let headers = sign("POST", "/v1/orders?dry=1", b"");
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-key-id", "x-timestamp", "x-nonce", "x-signature"]);
        for other in [
            sign("PUT", "/v1/orders?dry=1", b""),
            sign("POST", "/v1/orders?dry=2", b""),
            sign("POST", "/v1/orders?dry=1", b"x"),
        ] {
            assert_ne!(headers[3], other[3]);
        }
    }
}
