//! The arguments of `postern try`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::target::{self, Target};
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern try gate.yaml /healthz\n  \
    postern try gate.yaml /orders/7 -H \"authorization: Bearer $TOKEN\" --jwks demo=jwks.json\n  \
    postern try gate.yaml /limited -H \"x-api-key: $KEY\" --repeat 6\n  \
    postern try gate.yaml /hook -d @event.json -H \"x-hub-signature-256: $SIGNATURE\"\n\n\
    Exit code 0: allowed; 2: denied; 3: bad configuration, unreadable file or bad usage. Secrets are read from the \
    environment. Nothing is sent over the network, and credentials are not printed.")]
pub(crate) struct Args {
    /// The configuration, YAML or JSON; `-` reads standard input
    #[arg(value_name = "GATE.yaml")]
    pub(super) file: String,
    /// Path and query, or a whole URL
    #[arg(value_name = "TARGET", default_value = "/", value_parser = Target::parse)]
    pub(super) target: Target,
    /// The method; GET, or POST with a body
    #[arg(short = 'X', long = "method", value_parser = target::method)]
    pub(super) method: Option<String>,
    /// A header; repeatable, also with the same name
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(super) headers: Vec<String>,
    /// The body: the text itself, @FILE, or @- for standard input
    #[arg(short = 'd', long = "data", value_name = "DATA|@FILE")]
    pub(super) data: Option<String>,
    /// The host of the request; by default that of the URL, or localhost
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,
    /// The client's address, as Envoy determines it
    #[arg(long, value_name = "IP[:PORT]", default_value = "127.0.0.1:50000", value_parser = source)]
    pub(super) source: String,
    /// The keys of an issuer, which the filter would fetch: its name in the configuration, and a JSON Web Key Set file
    #[arg(long, value_name = "ISSUER=FILE", value_parser = jwks)]
    pub(super) jwks: Vec<(String, String)>,
    /// The gate's time, such as 2027-01-01T00:00:00Z or 1798761600; now by default
    #[arg(long, value_parser = time::timestamp)]
    pub(super) time: Option<Duration>,
    /// Send the request N times at the same instant, to test a limit
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) repeat: u32,
    /// Print one JSON document: decision, attempts
    #[arg(long)]
    pub(super) json: bool,
}

fn source(text: &str) -> Result<String, String> {
    if text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("write an address such as 192.0.2.7, 192.0.2.7:4711 or [2001:db8::1]:4711".to_owned())
}

fn jwks(text: &str) -> Result<(String, String), String> {
    let (issuer, file) = text
        .split_once('=')
        .filter(|(issuer, file)| !issuer.is_empty() && !file.is_empty())
        .ok_or("write ISSUER=FILE, such as demo=jwks.json")?;
    let issuer = issuer.strip_prefix("issuers/").unwrap_or(issuer);
    Ok((issuer.to_owned(), file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_key_files_are_validated() {
        assert!(source("192.0.2.7").is_ok() && source("[2001:db8::1]:1").is_ok() && source("x").is_err());
        assert_eq!(jwks("issuers/demo=a=b"), Ok(("demo".into(), "a=b".into())));
        assert!(jwks("demo").is_err() && jwks("demo=").is_err());
    }
}
